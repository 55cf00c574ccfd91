"""What tests make things with: one builder a noun."""

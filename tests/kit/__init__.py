"""What all tests share: a server, a client of it, waits, and one builder for each noun."""

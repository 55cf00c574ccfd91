"""Where an attempt works, and what it leaves."""

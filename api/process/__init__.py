"""The server's own process: its directories, its standard output, what its jobs must not read."""

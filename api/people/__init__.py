"""People at the edge: passwords, sessions, signing in, providers that vouch for somebody."""

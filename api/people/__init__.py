"""People: passwords, sessions, signing in, and providers."""

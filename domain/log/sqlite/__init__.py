"""The SQLite store: one file, and one process that owns it."""

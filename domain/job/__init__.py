"""The job: its events, its state and its commands."""

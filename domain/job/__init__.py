"""The job: what can happen to one, its state, its commands."""

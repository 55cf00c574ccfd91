"""The job board's API."""

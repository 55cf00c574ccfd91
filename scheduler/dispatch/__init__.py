"""The queue of jobs that may start, and the life of one attempt."""

"""The queue of what may start, and the start of one attempt."""

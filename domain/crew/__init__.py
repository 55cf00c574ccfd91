"""The crew: jobs that were committed together."""

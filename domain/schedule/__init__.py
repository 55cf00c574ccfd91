"""The schedule: when work repeats."""

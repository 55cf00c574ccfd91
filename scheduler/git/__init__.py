"""Git: worktrees of jobs, their checkpoints and diffs, and merges. Only `command.py` runs it."""

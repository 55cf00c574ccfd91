"""The commands of the command line, one file a noun.

What they need beside typer is imported where it is used: a command starts in the time it needs.
"""

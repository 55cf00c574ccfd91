"""The commands of the command line, one file for each noun.

Everything beside typer is imported where it is used, so that each command starts fast.
"""

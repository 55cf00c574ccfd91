"""The server's own process: its directories, its standard output, and hiding its secrets
from jobs.
"""

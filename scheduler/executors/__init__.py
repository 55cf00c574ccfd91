"""Executors: run the process of an attempt, and the contract of that."""

"""Benchmarks: each a ratio of two things measured in the same run (docs/performance.md explains
them).
"""

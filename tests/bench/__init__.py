"""Benchmarks: each is a ratio of two measurements of the same run (see docs/performance.md)."""

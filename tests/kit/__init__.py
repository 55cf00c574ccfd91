"""Builders for tests: one for each noun."""

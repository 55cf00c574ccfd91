"""Accounts of people, and the operator."""

"""Policies: what follows from events and from the clock."""

"""Drivers: what each kind of job does with its process."""

"""Deliveries to receivers outside: at least once, and never passed over."""

"""What goes out: deliveries to receivers outside, at least once, and never passed over."""

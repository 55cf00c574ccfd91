"""The delivery: one event to one receiver outside."""

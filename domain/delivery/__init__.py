"""The delivery: an effect outside, of an event, to one receiver."""

"""What can happen: events, aggregates and their commands, and the event log."""

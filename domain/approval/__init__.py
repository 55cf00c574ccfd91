"""The approval: a question to a person."""

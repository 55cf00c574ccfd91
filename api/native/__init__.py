"""Our own API: a noun is its routes, its JSON and its requests."""

PREFIX = "/crewlog/v1"

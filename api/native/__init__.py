"""crewlog's own API: each noun has its routes, its JSON and its requests."""

PREFIX = "/crewlog/v1"

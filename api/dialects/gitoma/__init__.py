"""gitoma's API."""

UNCOMPRESSED = ("/api/v1/stream/", "/ws/")
"""Addresses whose answers are never compressed (`contracts/gitoma.md` §2)."""

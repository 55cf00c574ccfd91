"""gitoma's API."""

"""CodePlane's API."""

"""What a kind of job does with its process."""

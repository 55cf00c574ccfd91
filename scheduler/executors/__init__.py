"""What runs the process of an attempt, and what that promises."""

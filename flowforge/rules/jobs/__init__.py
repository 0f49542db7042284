"""What an agent job is, what it may spend, and how it ends."""

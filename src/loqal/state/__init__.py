"""What sequences remember."""

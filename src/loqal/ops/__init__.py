"""The only door to arithmetic."""

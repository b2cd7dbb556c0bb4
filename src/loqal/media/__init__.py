"""Pictures and videos to patches. Knows no model and no text."""

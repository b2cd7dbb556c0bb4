"""The prefix cache: states of earlier requests in memory and on disk."""

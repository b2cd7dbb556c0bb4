"""States of sequences: KV pages, recurrent slots, captures, and their files on disk."""

"""Speculative decoding: where draft tokens come from, how many are proposed, how they are verified."""

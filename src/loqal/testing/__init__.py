"""Checkpoints and vocabularies of any size with random weights, for tests and benchmarks."""

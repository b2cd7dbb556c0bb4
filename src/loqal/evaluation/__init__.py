"""Evaluation: tasks with known answers, and the share that a model answers correctly."""

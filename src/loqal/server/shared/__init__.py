"""Shared by the dialects: request bodies, fields, errors, embeddings, log probabilities, streaming."""

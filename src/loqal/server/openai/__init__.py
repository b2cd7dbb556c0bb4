"""The OpenAI Chat Completions, Completions, Embeddings and Models APIs."""

"""The native API: health, metrics, rendered prompts, tokens, scores."""

"""State of one server that its requests share: models, keys, limits, metrics, stored replies."""

"""What all requests to one server share: models, keys, limits, metrics, stored replies."""

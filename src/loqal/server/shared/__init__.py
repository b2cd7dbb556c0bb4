"""What the dialects share: requests, fields, errors, streaming."""

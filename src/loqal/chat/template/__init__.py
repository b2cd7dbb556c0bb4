"""Chat templates: messages in, segments of text and control tokens out."""

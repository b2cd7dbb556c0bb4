"""The runtime: the one place where tokenizer, templates, media, model and engine are put together."""

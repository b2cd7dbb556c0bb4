"""Messages to token ids and back: template, tokenizer, reader of replies, and the family's defaults."""

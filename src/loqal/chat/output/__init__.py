"""Reading a reply: tokens in, reasoning, answer and tool calls out."""

"""loqal's own routes: health, metrics, rendering, tokenizing, scoring."""

"""Making smaller files of a model: recipes, importance of inputs, the quantizer, and comparing two files."""

"""Making smaller files of a model: recipes, importance of inputs, the quantiser, and comparing two files."""

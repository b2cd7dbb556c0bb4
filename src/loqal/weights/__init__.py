"""Files -> named tensors: both file formats, read and written."""

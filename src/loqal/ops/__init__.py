"""Operations: the interface of the compute backends, their implementations, and the decoder layer made of them."""

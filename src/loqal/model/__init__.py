"""The network: its shape, its tensors and its forward pass. Pure logic over the operations of ``ops``."""

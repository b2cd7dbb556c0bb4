"""Backends: implementations of loqal.ops.interface."""

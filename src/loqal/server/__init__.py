"""The HTTP server. A dialect is a pure ``parse`` and a pure ``format``; everything in between is shared.

Reaches the model only through ``loqal.runtime.runtime``.
"""

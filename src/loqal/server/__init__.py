"""HTTP in, HTTP out. A dialect is a pure ``parse`` and a pure ``format``; everything between them is shared.

Reaches the model only through ``loqal.runtime.runtime``.
"""

"""The machine and the process: hardware, memory, files."""

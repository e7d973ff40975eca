"""The parts of agents: a machine without I/O, tools, and the shells that call model and tools."""

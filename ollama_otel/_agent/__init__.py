"""Agents: a state machine without I/O, tools, and the shells that call the model and the tools."""

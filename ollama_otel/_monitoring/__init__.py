"""The boards, rules and the stack that are shipped: run, checked against a Prometheus, handed on.

Knows Prometheus' and Grafana's HTTP APIs; draws nothing and asks no Ollama.
"""

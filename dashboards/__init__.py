"""Boards, alerts and recording rules for Prometheus and Grafana.

The code is in `src`; `python -m dashboards.src` writes the JSON and YAML files beside it.
"""

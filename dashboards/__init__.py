"""Boards, alerts and recording rules for Prometheus and Grafana, as code.

`python -m dashboards` writes the files that Grafana and Prometheus read. Needs the
package's `dev` extra; nothing in `ollama_otel` imports this.
"""

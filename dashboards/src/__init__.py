"""Boards, alerts and recording rules as code.

`python -m dashboards.src` writes the files that Grafana and Prometheus read. Needs the
package's `dev` extra; nothing in `ollama_otel` imports this.
"""

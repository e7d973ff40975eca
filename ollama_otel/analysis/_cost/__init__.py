"""Cost of calls: shares of a machine's time and energy, cloud prices, break-even, budgets."""

from __future__ import annotations

from ollama_otel.analysis._store.extras import imported

# Its modules compute with arrays; without the extra, the error says so.
imported("numpy")
imported("pyarrow")

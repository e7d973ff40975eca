"""A commented price file to start from."""

from __future__ import annotations

from typing import Final

__all__ = ["EXAMPLE"]

EXAMPLE: Final = """\
# Prices for ollama_otel. Days begin at midnight UTC; amounts are in one currency.
currency = "EUR"
# What 1 US dollar costs: genai-prices, which knows cloud models, has dollars.
usd = 0.86

# --- machines: one entry for each, with the addresses of its Ollama servers as calls have them.
[[machine]]
name = "gpu-box"
servers = ["localhost:11434", "127.0.0.1:11434"]
slots = 4                  # OLLAMA_NUM_PARALLEL; for the load on the board

# What it costs from a day on. Old calls cost what they cost then: add entries, change none.
[[machine.price]]
from = 2025-01-01
idle_watts = 60            # measured while no model is loaded (`ollama ps` is empty)
busy_watts = 350           # measured while it answers
pue = 1.0                  # what the building draws for each watt; 1 at home, 1.2 to 1.6 in a rack
price_per_kwh = 0.32
purchase_price = 2600      # spread over the years, busy or not
purchase_years = 4
# rent_per_hour = 1.10     # in place of a purchase, or in addition to it

[[machine.price]]
from = 2026-01-01
idle_watts = 60
busy_watts = 350
price_per_kwh = 0.29
purchase_price = 2600
purchase_years = 4

# --- cloud: what could answer instead. Models that are not listed are reported, never guessed.
[[cloud]]
models = ["llama3.2", "llama3.2:3b"]
provider = "groq"          # provider and model as genai-prices names them
model = "llama-3.1-8b-instant"

[[cloud]]
models = ["qwen3:8b"]      # or prices of your own, for 1,000,000 tokens
[[cloud.price]]
from = 2025-01-01
input_per_million = 0.05
cached_input_per_million = 0.01
output_per_million = 0.40

# --- budgets: money, gpu_seconds (of busy time) or tokens, by day or month of the calendar.
[[budget]]
name = "everything"
limit = 90
unit = "money"
period = "month"

[[budget]]
name = "tokens of each user"
limit = 2_000_000
unit = "tokens"
period = "day"
each = "user"              # or "model", "conversation", "tag:team"

[[budget]]
name = "nightly jobs"
limit = 7200
unit = "gpu_seconds"
period = "day"
tags = { job = "nightly" } # only these calls; also: model = "...", user = "..."
"""

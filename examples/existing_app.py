"""An app that has its OpenTelemetry set up already and uses the official client.

    pip install ollama_otel
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/existing_app.py

Two ways, neither of which touches the calls themselves: `instrument_client` for one client,
`OllamaInstrumentor` for all of them, `ollama.chat(...)` included. Both report to the app's own
providers. Another model than llama3.2 is named as the argument.
"""

from __future__ import annotations

import sys

import ollama
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ollama_otel import OllamaInstrumentor, instrument_client

model = sys.argv[1] if len(sys.argv) > 1 else "llama3.2"
question = {"role": "user", "content": "Why is the sky blue?"}

# What the app has had all along.
resource = Resource.create({"service.name": "existing-app"})
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
meter_provider = MeterProvider(
    metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource
)
tracer = tracer_provider.get_tracer("existing_app")

# One client.
client = instrument_client(
    ollama.Client(), tracer_provider=tracer_provider, meter_provider=meter_provider
)
with tracer.start_as_current_span("answer with one client"):
    print(client.chat(model, messages=[question]).message.content)

# All clients, also those that other libraries make.
OllamaInstrumentor().instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
with tracer.start_as_current_span("answer with any client"):
    print(ollama.chat(model, messages=[question]).message.content)

tracer_provider.shutdown()
meter_provider.shutdown()

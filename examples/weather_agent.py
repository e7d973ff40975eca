"""An agent with two tools: its trace has each call of the model and of a tool.

    pip install ollama_otel
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/weather_agent.py

Another model than llama3.2 is named as the argument.
"""

import sys

from ollama_otel import Client, configure
from ollama_otel.tools import Agent, AgentRunError, TextEvent, ToolCallEvent, ToolResultEvent


def weather(city: str) -> str:
    """Get the current weather of a city.

    Args:
        city: Name of the city.
    """
    return {"Paris": "18 C, sunny", "Oslo": "7 C, rain"}.get(city, "20 C, cloudy")


def multiply(a: int, b: int) -> int:
    """Multiply two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a * b


configure(service_name="weather-agent")
model = sys.argv[1] if len(sys.argv) > 1 else "llama3.2"
question = "What is the weather in Paris, and what do you get if you multiply 12 by 7?"
agent = Agent(Client(), model, [weather, multiply], name="weather", max_rounds=5)
try:
    with agent.stream(question) as events:
        for event in events:
            match event:
                case ToolCallEvent(call):
                    print(f"-> {call.name} {call.arguments}")
                case ToolResultEvent(result):
                    print(f"<- {result.outcome}: {result.text}")
                case TextEvent(text):
                    print(text, end="", flush=True)
    run = events.run
    print(f"\n{len(run.rounds)} rounds, {run.input_tokens} tokens in, {run.output_tokens} out")
except AgentRunError as error:
    sys.exit(f"{error.run.ending}: {error}")

"""Start and stop real servers: what the fixtures and the recorder of bodies share.

Knows how to run Ollama, Jaeger and Prometheus on free ports and what to ask them; knows nothing of pytest.
"""

from __future__ import annotations

from .jaeger import RealJaeger, run_jaeger
from .ollama import (
    MODEL_NAMES,
    MODELS,
    RealOllama,
    StuckServerWarning,
    create_model,
    create_models,
    read_modelfile,
    run_ollama,
)
from .processes import (
    ServerNotInstalledError,
    ServerStartError,
    UnexpectedAnswerError,
    ask,
    free_ports,
    wait_until,
)
from .prometheus import DASHBOARDS, RealPrometheus, Translation, run_prometheus

__all__ = [
    "DASHBOARDS",
    "MODELS",
    "MODEL_NAMES",
    "RealJaeger",
    "RealOllama",
    "RealPrometheus",
    "ServerNotInstalledError",
    "ServerStartError",
    "StuckServerWarning",
    "Translation",
    "UnexpectedAnswerError",
    "ask",
    "create_model",
    "create_models",
    "free_ports",
    "read_modelfile",
    "run_jaeger",
    "run_ollama",
    "run_prometheus",
    "wait_until",
]

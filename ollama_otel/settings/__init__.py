"""Every setting: its keyword, variable, allowed values, default and meaning, in groups.

`configure(...)` and `Settings(...)` take the keywords, such as `replay_keep=5`. `Settings` has the
values in its groups: `settings.replay.keep`.
"""

from ollama_otel.settings._client_defaults import ClientDefaults
from ollama_otel.settings._groups import (
    ContentMode,
    ContentSettings,
    CostSettings,
    LifecycleSettings,
    Profile,
    ReplaySettings,
    ResidencySettings,
    ScrapeSettings,
    TelemetrySettings,
    TruncationMode,
    TruncationSettings,
)
from ollama_otel.settings._settings import SettingKeywords, Settings

__all__ = [
    "ClientDefaults",
    "ContentMode",
    "ContentSettings",
    "CostSettings",
    "LifecycleSettings",
    "Profile",
    "ReplaySettings",
    "ResidencySettings",
    "ScrapeSettings",
    "SettingKeywords",
    "Settings",
    "TelemetrySettings",
    "TruncationMode",
    "TruncationSettings",
]

"""The password of the stack's Grafana administrator: generated once, and kept in a file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollama_otel._monitoring import MonitoringError

__all__ = ["AdminPassword", "admin_password"]

_PASSWORD: Final = "GRAFANA_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable
_NO_ADMIN: Final = "GRAFANA_NO_ADMIN"
_FILE: Final = "grafana-admin-password"
_RANDOM_BYTES: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPassword:
    """The password for the next first start of Grafana, which keeps it from then on."""

    text: str
    file: Path | None
    """The file with the password; None if it comes from a variable."""

    def __repr__(self) -> str:
        return f"AdminPassword(file={self.file!r})"

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that the compose file reads."""
        return {_PASSWORD: self.text, _NO_ADMIN: "false"}


def admin_password(variables: Mapping[str, str]) -> AdminPassword:
    """Return the password in `GRAFANA_ADMIN_PASSWORD`, or the one in the user's file.

    The file is created, readable by its owner only, if there is none. Raises `MonitoringError` if
    that fails.
    """
    if given := variables.get(_PASSWORD):
        return AdminPassword(text=given, file=None)
    file = _state_folder(variables) / _FILE
    try:
        return AdminPassword(text=_kept(file), file=file)
    except OSError as error:
        raise MonitoringError(
            f"cannot keep a password for Grafana in {file} ({error.strerror or error}): set "
            f"{_PASSWORD}"
        ) from None


def _state_folder(variables: Mapping[str, str]) -> Path:
    states = variables.get("XDG_STATE_HOME") or variables.get("LOCALAPPDATA")
    return (Path(states) if states else Path.home() / ".local" / "state") / "ollama_otel"


def _kept(file: Path) -> str:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if found := file.read_text(encoding="utf-8").strip():
            return found
        raise OSError(None, "the file is empty: delete it") from None
    with open(descriptor, "w", encoding="utf-8") as new:  # noqa: PTH123 - a descriptor
        text = secrets.token_urlsafe(_RANDOM_BYTES)
        new.write(f"{text}\n")
    return text

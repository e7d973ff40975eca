"""Client of the part of Grafana's HTTP API that the import of boards needs.

Follows the documentation of Grafana 11.6: health, folders, data sources, dashboards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx

from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.http_client import (
    open_client,
    public_url,
    reads_answers,
    reason_of,
)

__all__ = ["DataSource", "GrafanaServer", "ImportedBoard", "SourceKind"]

SourceKind = Literal["prometheus", "jaeger"]

_PATIENCE: Final = httpx.Timeout(30.0, connect=5.0)
_FOLDERS: Final = 1000
_TRACE_LINK: Final = [
    {"name": "trace_id", "datasourceUid": "jaeger", "urlDisplayLabel": "Trace in Grafana"}
]
_SOURCES: Final[Mapping[SourceKind, Mapping[str, Any]]] = {
    "prometheus": {
        "name": "Prometheus",
        "jsonData": {
            "httpMethod": "POST",
            "timeInterval": "60s",
            "manageAlerts": True,
            "exemplarTraceIdDestinations": _TRACE_LINK,
        },
    },
    "jaeger": {"name": "Jaeger", "jsonData": {}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A data source of a Grafana."""

    uid: str
    name: str
    kind: str
    url: str
    is_new: bool
    """Whether this call created it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedBoard:
    """A board after its import."""

    title: str
    url: str
    version: int
    """1 for a new board."""


class GrafanaServer:
    """A Grafana server. Methods raise `MonitoringError` if it refuses or cannot be reached."""

    def __init__(
        self, url: str, *, token: str | None = None, user: tuple[str, str] | None = None
    ) -> None:
        self._user = "the token" if token else f"the user {user[0]!r}" if user else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = public_url(url, example="http://localhost:3000")
        self._client = open_client(
            url, timeout=_PATIENCE, headers=headers, auth=None if token else user
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    @reads_answers
    def version(self) -> str | None:
        """Return its version, None if hidden; raises if unhealthy or not a Grafana."""
        response = self._send("GET", "/api/health")
        health = _json(response)
        if not isinstance(health, dict) or "database" not in health:
            raise MonitoringError(
                f"the server at {self.url} is not a Grafana (HTTP status {response.status_code} "
                "from /api/health): give its URL with --grafana, including a sub-path"
            )
        if health["database"] != "ok":
            raise MonitoringError(
                f"the Grafana at {self.url} cannot use its database ({health['database']}): "
                "see its log"
            )
        version = health.get("version")
        return None if version is None else str(version)

    @reads_answers
    def folder(self, title: str) -> str:
        """Return the uid of the folder with a title; creates it if there is none."""
        listed = self._ask("GET", f"/api/folders?limit={_FOLDERS}", what="list the folders")
        for each in listed:
            if each.get("title") == title:
                return str(each["uid"])
        made = self._ask(
            "POST", "/api/folders", {"title": title}, what=f"create the folder {title!r}"
        )
        return str(made["uid"])

    @reads_answers
    def data_source(self, kind: SourceKind, url: str) -> DataSource:
        """Return the data source whose uid is `kind`; creates it for `url` if there is none."""
        response = self._send("GET", f"/api/datasources/uid/{kind}")
        if response.status_code != HTTPStatus.NOT_FOUND:
            found = self._read(response, what=f"look up the data source {kind!r}")
            return _data_source(found, is_new=False)
        sent = {"uid": kind, "type": kind, "access": "proxy", "url": url, **_SOURCES[kind]}
        made = self._ask(
            "POST", "/api/datasources", sent, what=f"create the data source {sent['name']!r}"
        )
        return _data_source(made["datasource"], is_new=True)

    @reads_answers
    def data_sources(self) -> list[DataSource] | None:
        """Return all data sources; None if the user may not list them."""
        response = self._send("GET", "/api/datasources")
        if response.status_code == HTTPStatus.FORBIDDEN:
            return None
        found = self._read(response, what="list the data sources")
        return [_data_source(each, is_new=False) for each in found]

    @reads_answers
    def import_board(self, board: Mapping[str, Any], *, folder: str) -> ImportedBoard:
        """Put a board into a folder; replaces a board with the same uid."""
        title = str(board.get("title", ""))
        sent = {
            # The id of another Grafana would not be found here.
            "dashboard": {**board, "id": None},
            "folderUid": folder,
            "overwrite": True,
            "message": "ollama-otel dashboards import",
        }
        made = self._ask("POST", "/api/dashboards/db", sent, what=f"import the board {title!r}")
        root = httpx.URL(self.url)
        return ImportedBoard(
            title=title, url=str(root.join(str(made["url"]))), version=int(made["version"])
        )

    def _ask(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, what: str
    ) -> Any:
        return self._read(self._send(method, path, content), what=what)

    def _send(
        self, method: str, path: str, content: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        try:
            return self._client.request(method, path, json=content)
        except httpx.HTTPError as error:
            raise MonitoringError(
                f"no Grafana at {self.url}: {reason_of(error)}; start one with "
                "`ollama-otel dashboards up`, or give yours with --grafana URL"
            ) from None

    def _read(self, response: httpx.Response, *, what: str) -> Any:
        content = _json(response)
        if response.is_success and content is not None:
            return content
        said = content.get("message") if isinstance(content, dict) else None
        raise MonitoringError(
            f"{self.url} refused to {what}: {self._refusal(response.status_code)}"
            + (f" (message: {said})" if said else "")
        )

    def _refusal(self, status: int) -> str:
        match status:
            case HTTPStatus.UNAUTHORIZED:
                problem = f"{self._user} is not valid" if self._user else "sign-in required"
                return (
                    f"{problem}; give the token of a service account with "
                    "GRAFANA_TOKEN or --token, or --user NAME"
                )
            case HTTPStatus.FORBIDDEN:
                return (
                    f"{self._user or 'an anonymous user'} lacks permission; boards and "
                    "folders need the role Editor, data sources the role Admin"
                )
            case HTTPStatus.PRECONDITION_FAILED:
                return (
                    "another board has its name or uid, or belongs to a plugin; "
                    "remove or rename that one, or choose another --folder"
                )
            case HTTPStatus.CONFLICT:
                return "one with that name exists; rename it, or give it the uid that we look for"
            case HTTPStatus.BAD_REQUEST:
                return (
                    "Grafana rejects the board; a provisioned board can only be changed in its "
                    "file, not by import"
                )
            case _:
                return f"HTTP status {status}"


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _data_source(found: Mapping[str, Any], *, is_new: bool) -> DataSource:
    return DataSource(
        uid=str(found.get("uid", "")),
        name=str(found.get("name", "")),
        kind=str(found.get("type", "")),
        url=str(found.get("url", "")),
        is_new=is_new,
    )

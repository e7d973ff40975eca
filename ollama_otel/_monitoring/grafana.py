"""Grafana's HTTP API, as far as importing boards needs it.

After its documentation for 11.6: health, folders, data sources, dashboards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx

from ollama_otel._monitoring.errors import DashboardsError
from ollama_otel._monitoring.web import open_client, reason_of, shown

__all__ = ["DataSource", "Grafana", "ImportedBoard", "SourceKind"]

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
    """A data source as Grafana has it."""

    uid: str
    name: str
    kind: str
    url: str
    is_new: bool
    """Whether it was made just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedBoard:
    """A board that is in Grafana now."""

    title: str
    url: str
    version: int
    """1: it was not there before."""


class Grafana:
    """A Grafana; whatever it refuses raises `DashboardsError`, in a sentence."""

    def __init__(
        self, url: str, *, token: str | None = None, user: tuple[str, str] | None = None
    ) -> None:
        self._asks_as = "the token" if token else f"the user {user[0]!r}" if user else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = shown(url, example="http://localhost:3000")
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

    def version(self) -> str | None:
        """Return its version, which it may hide; raises where it is no Grafana or not well."""
        response = self._send("GET", "/api/health")
        health = _json(response)
        if not isinstance(health, dict) or "database" not in health:
            raise DashboardsError(
                f"what answers at {self.url} is no Grafana (HTTP status {response.status_code} "
                "from /api/health): name its address by --grafana, sub-path included"
            )
        if health["database"] != "ok":
            raise DashboardsError(
                f"the Grafana at {self.url} cannot use its database ({health['database']}): "
                "look into its log"
            )
        version = health.get("version")
        return None if version is None else str(version)

    def folder(self, title: str) -> str:
        """Return the uid of the folder with a title, which is made where there is none."""
        listed = self._ask("GET", f"/api/folders?limit={_FOLDERS}", what="list the folders")
        for each in listed:
            if each.get("title") == title:
                return str(each["uid"])
        made = self._ask(
            "POST", "/api/folders", {"title": title}, what=f"make the folder {title!r}"
        )
        return str(made["uid"])

    def data_source(self, kind: SourceKind, url: str) -> DataSource:
        """Return the data source whose uid is its kind, made for `url` where there is none."""
        response = self._send("GET", f"/api/datasources/uid/{kind}")
        if response.status_code != HTTPStatus.NOT_FOUND:
            found = self._read(response, what=f"look for the data source {kind!r}")
            return _data_source(found, is_new=False)
        sent = {"uid": kind, "type": kind, "access": "proxy", "url": url, **_SOURCES[kind]}
        made = self._ask(
            "POST", "/api/datasources", sent, what=f"make the data source {sent['name']!r}"
        )
        return _data_source(made["datasource"], is_new=True)

    def data_sources(self) -> list[DataSource] | None:
        """Return all data sources; None where whoever asks may not see them."""
        response = self._send("GET", "/api/datasources")
        if response.status_code == HTTPStatus.FORBIDDEN:
            return None
        found = self._read(response, what="list the data sources")
        return [_data_source(each, is_new=False) for each in found]

    def import_board(self, board: Mapping[str, Any], *, folder: str) -> ImportedBoard:
        """Put a board into a folder, over the one that has its uid."""
        title = str(board.get("title", ""))
        sent = {
            # With an id of another Grafana it would not be found.
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
            raise DashboardsError(
                f"no Grafana at {self.url}: {reason_of(error)}; start one with "
                "`ollama-otel dashboards up`, or name yours by --grafana URL"
            ) from None

    def _read(self, response: httpx.Response, *, what: str) -> Any:
        content = _json(response)
        if response.is_success and content is not None:
            return content
        said = content.get("message") if isinstance(content, dict) else None
        raise DashboardsError(
            f"{self.url} would not {what}: {self._refusal(response.status_code)}"
            + (f" (it says: {said})" if said else "")
        )

    def _refusal(self, status: int) -> str:
        match status:
            case HTTPStatus.UNAUTHORIZED:
                known = (
                    f"does not know {self._asks_as}" if self._asks_as else "wants to know who asks"
                )
                return (
                    f"it {known}; give the token of a service account by "
                    "--token or GRAFANA_TOKEN, or --user NAME:PASSWORD"
                )
            case HTTPStatus.FORBIDDEN:
                return (
                    f"{self._asks_as or 'whoever is not signed in'} may not do that; boards and "
                    "folders need the role Editor, data sources the role Admin"
                )
            case HTTPStatus.PRECONDITION_FAILED:
                return (
                    "something else there has its name or uid, or belongs to a plugin; "
                    "remove or rename that, or choose another --folder"
                )
            case HTTPStatus.CONFLICT:
                return (
                    "one of that name is there already; rename it, or give it the uid we look for"
                )
            case HTTPStatus.BAD_REQUEST:
                return (
                    "it does not take it; a board that comes from Grafana's provisioning is "
                    "changed in its file and not by import"
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

"""Joins the requests of httpx's auth: several of them may be rounds of one call of the caller.

`DigestAuth`, and any custom auth, may answer a response such as 401 with another request. A
transport cannot see that, and the response must not be reported as the end of the call. So the
record of such a response is held until the auth sends another request or ends.
"""

from __future__ import annotations

import sys
import weakref
from types import AsyncGeneratorType, GeneratorType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ollama_otel._exchange.exchange import Exchange

__all__ = ["AuthRounds"]

if TYPE_CHECKING:
    _Flow: TypeAlias = GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]
    """The generator of an auth: one for each call of the caller, in a frame of httpx."""


class AuthRounds:
    """Holds the ends of responses that an auth of one HTTP library may answer."""

    def __init__(self, http: ModuleType) -> None:
        """`http` is httpx, or a module with its interface."""
        self._codes: Final = [
            client._send_handling_auth.__code__  # noqa: SLF001 - a test pins it
            for client in (http.Client, http.AsyncClient)
            if hasattr(client, "_send_handling_auth")
        ]
        self._of_one_round: Final = (http.Auth, http.BasicAuth, http.NetRCAuth)
        self._held: Final[weakref.WeakKeyDictionary[_Flow, list[Exchange]]] = (
            weakref.WeakKeyDictionary()
        )
        """Held exchanges by flow; a flow has several if a cassette is recorded below a client with
        telemetry.
        """
        self._has_held = False
        """Whether an end was ever held. Most apps have no such auth, so this check is their only
        cost.
        """

    def hold(self, exchange: Exchange) -> None:
        """Hold the end of an exchange, if an auth may answer its response; called within httpx."""
        flow = self._flow()
        if flow is not None:
            self._has_held = True
            exchange.hold()
            self._held.setdefault(flow, []).append(exchange)
            # httpx drops the flow when it returns the response to its caller.
            weakref.finalize(flow, exchange.release).atexit = False

    def go_on(self) -> None:
        """End the previous round, if the next request belongs to the same auth flow."""
        if not self._has_held:
            return
        flow = self._flow()
        for exchange in () if flow is None else self._held.pop(flow, ()):
            exchange.answered_by_auth()
        # An exception of the auth keeps its flow alive.
        for ended, exchanges in list(self._held.items()):
            if _has_ended(ended):
                for exchange in exchanges:
                    exchange.release()

    def _flow(self) -> _Flow | None:
        """Return the auth flow of the current request; None if it sends no further request."""
        frame = sys._getframe(1)  # noqa: SLF001 - the documented way to read a caller's frame
        while (below := frame.f_back) is not None:
            frame = below
            if frame.f_code in self._codes:
                variables = frame.f_locals
                if type(variables.get("auth")) in self._of_one_round:
                    return None
                flow: _Flow | None = variables.get("auth_flow")
                return flow
        return None


def _has_ended(flow: _Flow) -> bool:
    frame = flow.gi_frame if isinstance(flow, GeneratorType) else flow.ag_frame
    return frame is None

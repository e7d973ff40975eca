"""The terminal program of `top`: keys, and a screen that is drawn again at each interval."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Final, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Input, Static

from ollama_otel._cli.top_call import call_in_full, verdicts_in_full
from ollama_otel._cli.top_screen import Choice, call_at, calls_of, lines_of
from ollama_otel._top.selection import SORTS
from ollama_otel._top.state import State
from ollama_otel._top.view import CallRow, View

__all__ = ["News", "TopApp"]

_HELP: Final = f"""\
Keys
  up, down, page up, page down, home, end: move the cursor
  Enter    open the call under the cursor; Escape goes back
  s        sort by the next column:
           {", ".join(SORTS)}
  r        reverse the order
  /        filter: words that a call must have (model, operation, outcome, id,
           error, conversation, user, tag=value, trace id); empty: all calls
  v        all verdicts, with the calls that show each
  p        pause the screen; reading goes on
  q        quit

Calls
  STATE    run, done, left (its caller closed the stream), cancel, failed
  TOOK     duration, or the time until now
  FIRST    time to the first chunk of a stream
  QUEUE    estimated wait for a slot
  LOAD     wait for the model; yellow: a cold start
  PROMPT   processing of the prompt; ~: estimated time until it is processed
  EVAL     generation
  IN, OUT  tokens

Models
  USED     time since its last request that was seen; 0s: in flight
  GPU      part in GPU memory
  CTX      context for each request, in tokens
  UNTIL    time until it is unloaded; out: not in memory; due: its time is
           over, and a request still uses it, or it is being unloaded
  FLIGHT   calls in flight / slots seen in use; +: perhaps more slots
  ENDED    calls that ended in the window of the rates
  PREFILL  estimated tokens/s of prompts that are not cached
  DECODE   median tokens/s of generation
  LOADS    loads that were seen in the last 5 minutes (wide screens)

-        unknown
"""


class News(Protocol):
    """Feeds the state with readings."""

    def into(self, state: State) -> None:
        """Feed a state with all new readings; never waits."""
        ...


class _Lines(Static):
    """The lines of the screen, which depend on its size."""

    def __init__(self, draw: Callable[[], None]) -> None:
        super().__init__(id="screen", markup=False)
        self._draw_lines = draw

    def on_resize(self) -> None:
        self._draw_lines()


class _Page(Screen[None]):
    """A text that can be scrolled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "app.leave", show=False)]
    CSS = "VerticalScroll { height: 1fr; } .keys { height: 1; }"

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(id="page", markup=False)
        yield Static("Escape back  up/down scroll", classes="keys", markup=False)


class _CallPage(_Page):
    """One call; it is drawn again while it runs."""

    def __init__(self, call: CallRow) -> None:
        super().__init__()
        self._call = call

    def on_mount(self) -> None:
        self.show(self._call)

    def find(self, view: View) -> None:
        """Show the call as it is in a newer view."""
        if self._call.record is None:
            found = (call for call in view.calls or () if call.id == self._call.id)
            self.show(next(found, self._call))

    def show(self, call: CallRow) -> None:
        self._call = call
        self.query_one("#page", Static).update(call_in_full(call))


class _HelpPage(_Page):
    """What keys and columns mean."""

    def on_mount(self) -> None:
        self.query_one("#page", Static).update(Text(_HELP))


class _VerdictsPage(_Page):
    """The verdicts in full."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view

    def on_mount(self) -> None:
        self.query_one("#page", Static).update(verdicts_in_full(self._view))


class TopApp(App[None]):
    """Draws the view of a state that is fed with news."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    CSS = "#screen { height: 1fr; } Input { display: none; border: none; height: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", show=False),
        Binding("s", "sort", show=False),
        Binding("r", "reverse", show=False),
        Binding("slash", "filter", show=False),
        Binding("v", "verdicts", show=False),
        Binding("p", "pause", show=False),
        Binding("question_mark", "help", show=False),
        # Before the filter's input field gets them, so that keys typed ahead are not inserted.
        Binding("enter", "enter", show=False, priority=True),
        Binding("escape", "leave", show=False, priority=True),
        *(
            Binding(key, f"move({lines})", show=False)
            for key, lines in {
                "up": -1,
                "down": 1,
                "pageup": -10,
                "pagedown": 10,
                "home": -1_000_000,
                "end": 1_000_000,
            }.items()
        ),
    ]

    def __init__(
        self, news: News, *, interval: float, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._news = news
        self._state = State()
        self._clock = clock
        self._interval = interval
        self._choice = Choice()
        self._view = View(at=clock())

    def compose(self) -> ComposeResult:
        yield _Lines(self._draw)
        yield Input(placeholder="filter: words that a call must have", disabled=True)

    def on_mount(self) -> None:
        # The terminal's own colours, which fit its background.
        self.theme = "ansi-dark"
        self.look()
        self.set_interval(self._interval, self.look)

    def look(self) -> None:
        """Read new data, and redraw unless the screen is paused."""
        self._news.into(self._state)
        if not self._choice.is_paused:
            self._view = self._state.view(self._clock())
        self._draw()

    def _draw(self) -> None:
        if isinstance(self.screen, _CallPage):
            self.screen.find(self._view)
        elif len(self.screen_stack) == 1:
            screen = self.query_one("#screen", Static)
            lines = lines_of(
                self._view, self._choice, width=screen.size.width, height=screen.size.height
            )
            screen.update(Text("\n").join(lines), layout=False)

    def _choose(self, **changes: object) -> None:
        self._choice = replace(self._choice, **changes)  # type: ignore[arg-type]
        self._draw()

    # --- keys -----------------------------------------------------------------------------

    def action_sort(self) -> None:
        names = [*SORTS]
        after = names[(names.index(self._choice.sort) + 1) % len(names)]
        self._choose(sort=after, descending=True)

    def action_reverse(self) -> None:
        self._choose(descending=not self._choice.descending)

    def action_pause(self) -> None:
        self._choose(is_paused=not self._choice.is_paused)

    def action_move(self, lines: int) -> None:
        calls = calls_of(self._view, self._choice)
        call = call_at(calls, self._choice, by=lines)
        # On the first line, the cursor stays on that line when new calls arrive.
        self._choose(call=None if call is None or call is calls[0] else call.id)

    def action_enter(self) -> None:
        """Take the filter, leave a page, or open the call under the cursor."""
        if self._is_elsewhere:
            self.action_leave()
            return
        call = call_at(calls_of(self._view, self._choice), self._choice)
        if call is not None:
            self.push_screen(_CallPage(call))

    def action_help(self) -> None:
        self.push_screen(_HelpPage())

    def action_verdicts(self) -> None:
        self.push_screen(_VerdictsPage(self._view))

    def action_filter(self) -> None:
        field = self.query_one(Input)
        field.value = self._choice.words
        # Disabled while it is hidden: otherwise it would take the keys.
        field.display, field.disabled = True, False
        field.focus()

    @property
    def _is_elsewhere(self) -> bool:
        """Whether a page or the filter's input field is open."""
        return len(self.screen_stack) > 1 or not self.query_one(Input).disabled

    def action_leave(self) -> None:
        """Leave a page, or the field of the filter."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
            self.call_after_refresh(self._draw)
            return
        field = self.query_one(Input)
        field.display, field.disabled = False, True
        self.call_after_refresh(self._draw)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._choose(words=event.value, call=None)

"""The text of a request that becomes the model's prompt, the same for every dialect."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Prompt", "PromptMessage"]


class PromptMessage(Struct, frozen=True, gc=False):
    """The text of one message."""

    role: str
    text: str
    stays: bool = False
    """Whether the server keeps it if it drops messages: an instruction."""


class Prompt(Struct, frozen=True, kw_only=True):
    """The texts that a server renders into a prompt; its template is unknown."""

    messages: tuple[PromptMessage, ...] = ()
    """In order; an instruction that has a field of its own is the first one."""
    more: str = ""
    """Text that the template may reformat or leave out: tools, tool calls, thinking."""
    has_media: bool = False
    """Whether it has images or sounds, whose tokens are not known."""
    is_raw: bool = False
    """Whether the text goes to the model unchanged, without a template."""
    is_known: bool = True
    """Whether the prompt has no other parts, such as a template in the request."""

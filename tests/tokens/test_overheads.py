"""What a template adds is exact only if it follows from calls that agree."""

from __future__ import annotations

import pytest

from ollama_otel._tokens.overheads import Overhead, Overheads, Roles


def template(roles: Roles) -> int:
    """A template as most are: something around the prompt, and around each message by its role."""
    cost = {"user": 5, "assistant": 7, "system": 9}
    return 3 + sum(cost[role] * number for role, number in roles.items())


def learnt(*seen: Roles) -> Overheads:
    overheads = Overheads()
    for roles in seen:
        overheads.learn("chat", roles, template(roles))
    return overheads


def test_nothing_is_known_at_first() -> None:
    assert Overheads().predict("chat", {"user": 1}) is None
    assert learnt({"user": 1}).predict("generate", {"user": 1}) is None


def test_the_same_prompts_must_agree_before_it_is_exact() -> None:
    seen = [{"user": 1}, {"user": 1}, {"user": 1}]
    assert learnt(*seen[:2]).predict("chat", {"user": 1}) == Overhead(8, is_exact=False)
    assert learnt(*seen).predict("chat", {"user": 1}) == Overhead(8, is_exact=True)


@pytest.mark.parametrize(
    "roles", [{"user": 3, "assistant": 2}, {"user": 51, "assistant": 50}, {"user": 1}]
)
def test_what_follows_from_other_prompts_is_exact(roles: Roles) -> None:
    overheads = learnt({"user": 1}, {"user": 2, "assistant": 1}, {"user": 1}, {"user": 1})
    assert overheads.predict("chat", roles) == Overhead(template(roles), is_exact=True)


def test_what_does_not_follow_is_an_estimate() -> None:
    overheads = learnt({"user": 1}, {"user": 1}, {"user": 2, "assistant": 1}, {"user": 1})
    found = overheads.predict("chat", {"user": 2, "assistant": 2})
    assert found is not None
    assert not found.is_exact
    assert abs(found.tokens - template({"user": 2, "assistant": 2})) <= 3
    with_system = overheads.predict("chat", {"user": 1, "system": 1})
    assert with_system is not None
    assert not with_system.is_exact


def test_prompts_that_disagree_are_never_exact() -> None:
    overheads = learnt(*[{"user": 1}] * 10)
    overheads.learn("chat", {"user": 1}, 9)
    found = overheads.predict("chat", {"user": 1})
    assert found is not None
    assert not found.is_exact


def test_late_prompts_count() -> None:
    overheads = Overheads()
    overheads.learn("chat", {"user": 1}, 999)
    for _ in range(64):
        overheads.learn("chat", {"user": 1}, 8)
    assert overheads.predict("chat", {"user": 1}) == Overhead(8, is_exact=True)


def test_kinds_and_roles_are_bounded() -> None:
    overheads = Overheads()
    for kind in range(1000):
        overheads.learn(kind, {"user": 1}, 8)
    overheads.learn(0, {str(role): 1 for role in range(100)}, 8)
    assert sum(overheads.predict(kind, {"user": 1}) is not None for kind in range(1000)) == 32

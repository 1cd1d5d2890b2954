"""A conversation is masked alike in each of its turns: what backends have cached stays good."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenworks.gateway.backend import Completion
from tokenworks.gateway.labelling import masked
from tokenworks.gateway.privacy.masking import Vault

SAID = st.lists(
    st.sampled_from(
        [
            *("ada@example.org", "bob@example.org", "(602) 272-9781", "13800138000"),
            *("4111 1111 1111 1111", "password: hunter2x", "hunter2x", "密码：ab!c，", "ab!c"),
            *("<EMAIL_1>", "<EMAIL_2>", "call", "mail", ",", "\n", "密码是"),
        ]
    ),
    max_size=6,
).map(" ".join)
TURNS = st.lists(SAID, min_size=1, max_size=6)


def request_of(texts: list[str], tools: list[dict[str, Any]] | None = None) -> Completion:
    messages = [{"role": "user", "content": text} for text in texts]
    further = {"tools": tools} if tools else {}
    return Completion(request_id="r", model="m", messages=messages, further=further)


def contents(request: Completion) -> list[str]:
    return [message["content"] for message in request.messages or ()]


@given(turns=TURNS, tool=SAID, more=TURNS)
@settings(deadline=None, max_examples=300)
@example(turns=["hunter2x /ab!c"], tool="", more=["密码：ab!c，", "password: hunter2x"])
def test_a_value_has_the_same_placeholder_in_every_turn(
    turns: list[str], tool: str, more: list[str]
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": tool}}]
    before, after = Vault(), Vault()
    first = masked(request_of(turns, tools), before)
    whole = masked(request_of([*turns, *more], tools), after)

    given_out = list(before._placeholders.items())
    assert list(after._placeholders.items())[: len(given_out)] == given_out
    assert whole.further == first.further or len(after) > len(before)
    # But for what only a later turn gives away, the masked beginning is the beginning masked.
    later = list(after._placeholders)[len(given_out) :]
    for one, again in zip(contents(first), contents(whole), strict=False):
        assert again == one or any(original in one for original in later)


def test_tools_are_numbered_before_messages() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "ask bob@example.org"}}]
    new = masked(request_of(["ada@example.org"], tools), Vault())

    assert "<EMAIL_1>" in str(new.further)
    assert contents(new) == ["<EMAIL_2>"]


def test_what_a_later_message_gives_away_is_masked_in_earlier_ones() -> None:
    new = masked(request_of(["I typed hunter2x.", "My password is hunter2x."]), Vault())

    assert "hunter2x" not in "".join(contents(new))

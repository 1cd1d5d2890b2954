"""Conversations with private items in every place of a request; `gateway_bodies` writes them."""

import random
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway_canaries import Canary, canary, disguised, some_kind
from recording_backend import CALL_WORD

from tokenworks.gateway.labels import Label

Api = Literal["chat", "completions", "responses", "messages"]
PATHS: Final[dict[Api, str]] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
PLACES: Final[dict[Api, tuple[str, ...]]] = {
    "chat": (
        *("system", "history", "assistant", "arguments", "escaped", "number", "result", "call_id"),
        *("call_name", "tool_name", "tool_text", "schema", "format", "stop", "template", "image"),
        *("user_field", "request_id", "parts"),
    ),
    "completions": ("stop", "user_field", "request_id"),
    "responses": (
        *("system", "history", "assistant", "arguments", "escaped", "result", "call_id"),
        *("call_name", "tool_name", "tool_text", "schema", "format", "user_field", "parts"),
    ),
    "messages": (
        *("system", "history", "assistant", "arguments", "result", "call_id", "tool_name"),
        *("tool_text", "schema", "stop", "user_field", "parts"),
    ),
}
PLAIN_ONLY: Final = frozenset({"number", "call_id", "call_name", "tool_name", "request_id"})
"""Places that take a short word and no more."""

FRAMES: Final = (
    *(
        "Reach me under {} please.",
        "My details: {}",
        "Write to {} for me",
        "{} is what she gave us",
    ),
    *(
        "请联系{}，谢谢。",
        "我的号码是{}，请帮我查一下。",
        "她说是{}对吧？",
        "Note ({}) for the file",
    ),
    *(
        '{{"contact": "{}"}}',
        "first\n{}\nlast",
        "see {}; then answer",
        "<b>{}</b> was written here",
    ),
)
CHATTER: Final = (
    "Good morning.",
    "你好。",
    "Please answer briefly.",
    "What do you think of canals?",
)
LABELS: Final = {"private": Label.PRIVATE, "secret": Label.SECRET}
"""What a header or a key may say; where neither does, the policy's default holds."""


@dataclass(frozen=True, slots=True)
class Item:
    canary: Canary
    shown: str
    place: str


@dataclass
class Conversation:
    """`turns` are what the user says; `items` stand in the first request's other places."""

    number: int
    api: Api
    key: str  # the label of its key: "", "private" or "secret"
    header: str  # what its header says: "", "private" or "secret"
    stream: bool
    turns: list[str]
    items: list[Item]
    all: list[Item]
    tool_wanted: bool = False
    twice: bool = False  # two headers say a label, the lower one first
    answers: list[str] = field(default_factory=list)
    previous: str = ""

    def headers(self) -> list[tuple[str, str]]:
        """One that goes on from a response that is kept need not say its label again."""
        said = [(x.place, f"nr-{x.shown}") for x in self.items if x.place == "request_id"]
        found = [("x-request-id", text) for _, text in said]
        if self.header and not self.previous:
            low = [("x-tokenworks-label", "public")] if self.twice else []
            found += [*low, ("x-tokenworks-label", self.header)]
        return found

    def at(self, place: str) -> list[str]:
        return [one.shown for one in self.items if one.place == place]


def conversations(count: int, seed: int, default: Label) -> list[Conversation]:
    """`default` is the label of what nobody has labelled."""
    dice = random.Random(seed)
    return [_conversation(number, dice, default) for number in range(count)]


def _conversation(number: int, dice: random.Random, default: Label) -> Conversation:
    api: Api = dice.choice(("chat", "chat", "chat", "completions", "responses", "messages"))
    key = dice.choice(("",) * 10 + ("private", "secret"))
    header = dice.choice(("",) * 10 + ("private", "secret"))
    least = max(LABELS.get(key, default), LABELS.get(header, default))
    every: list[Item] = []

    def item(place: str) -> Item:
        one = canary("phone" if place in PLAIN_ONLY else some_kind(dice), dice, least)
        shown = one.text if place in PLAIN_ONLY else disguised(one, dice)
        every.append(Item(one, shown, place))
        return every[-1]

    def said() -> str:
        texts = [dice.choice(CHATTER)]
        for _ in range(dice.choice((0, 1, 1, 2))):
            texts.append(dice.choice(FRAMES).format(item("user").shown))
        return " ".join(texts)

    many = 1 if api == "completions" else dice.choice((1, 2, 3))
    turns = [said() for _ in range(many)]
    places = dice.sample(PLACES[api], dice.choice((0, 0, 1, 1, 2)))
    found = Conversation(
        number=number,
        api=api,
        key=key,
        header=header,
        stream=dice.random() < 0.7,
        turns=turns,
        items=[item(place) for place in places],
        all=every,
        tool_wanted=api not in ("completions",) and dice.random() < 0.15,
        twice=bool(header) and dice.random() < 0.2,
    )
    if found.tool_wanted:
        found.turns[-1] += f" Please {CALL_WORD}."
    return found

"""What is served: each workload is a round's conversations, and no two rounds have a prefix in
common, so that nothing is left in any server's memory from the round before."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from http_load import Conversation
from serving_texts import Texts, taken

CLIENTS = 8
"""Requests at once; so many slots has each peer."""
LONGEST = 192
"""Tokens of an answer: 15 to 88 % end before. With 320 more would (42 to 100 %), but the rest goes
round in circles: up to 22 % of all 8-grams were repeats, at 192 up to 13 %."""
SHOTS = 8
AGENT_TURNS = 3

ROLES = (
    "You are a careful assistant. Answer the user's question in your own words.",
    "You are a patient teacher. Solve the last problem as the examples are solved.",
)
TOOLS = [
    {
        "name": name,
        "description": about,
        "parameters": {
            "type": "object",
            "properties": {word: {"type": "string", "description": text} for word, text in words},
            "required": [words[0][0]],
        },
    }
    for name, about, *words in (
        (
            *("read_file", "Read a file of the project and return its text."),
            *(("path", "where the file is, from the project's root"), ("lines", "e.g. 1-80")),
        ),
        (
            *("search", "Find the lines of the project that hold a text."),
            *(("text", "what to look for, word by word"), ("folder", "only below this folder")),
        ),
        (
            *("run_tests", "Run the tests of one file and return what failed and why."),
            *(("path", "the file with the tests"), ("name", "only the test of this name")),
        ),
        (
            *("edit_file", "Replace a text in a file by another one."),
            *(("path", "where the file is"), ("old", "what is there"), ("new", "what shall be")),
        ),
    )
]
AGENT = (
    "You are a programming agent. You work in steps. In each step, say in one or two sentences "
    "what you have learnt, then call exactly one tool by writing a JSON object with its name and "
    f"arguments. These are the tools:\n{json.dumps(TOOLS, indent=1)}"
)


@dataclass(frozen=True)
class Workload:
    """`key` names its result. `copies`: whether the answer repeats what was given, by its nature;
    of others, outputs that repeat themselves do not count."""

    key: str
    conversations: Callable[[Texts, int], list[Conversation]]
    stagger_s: float = 0.0
    copies: bool = False


def unique_short(texts: Texts, round: int) -> list[Conversation]:
    """The control: short questions, nothing in common."""
    number = 16
    asked = taken(
        [talk[0] for talk in texts.dialogues if len(talk[0]) < 400], number * round, number
    )
    return [
        Conversation((f"({round}-{place}) {question}",), most_tokens=LONGEST)
        for place, question in enumerate(asked)
    ]


def shared_prefix(texts: Texts, round: int, group: str) -> list[Conversation]:
    """A long prompt of worked examples, the same for all users, and a problem from each."""
    start = round * (SHOTS + CLIENTS)
    examples = taken(texts.problems, start, SHOTS)
    worked = "\n\n".join(f"Problem: {asked}\nAnswer: {told}" for asked, told in examples)
    system = f"Class {group}{round}. {ROLES[1]}\n\n{worked}"
    return [
        Conversation((f"Problem: {asked}",), system, most_tokens=LONGEST)
        for asked, _ in taken(texts.problems, start + SHOTS, CLIENTS)
    ]


def multi_turn(texts: Texts, round: int) -> list[Conversation]:
    """More conversations than there are requests at once, each of four turns."""
    number = CLIENTS + 2
    first = taken(texts.dialogues, 2 * number * round, number)
    second = taken(texts.dialogues, 2 * number * round + number, number)
    return [
        Conversation(
            (f"({round}-{place}) {early[0]}", *early[1:], *late),
            ROLES[0],
            most_tokens=LONGEST,
        )
        for place, (early, late) in enumerate(zip(first, second, strict=True))
    ]


def agent_loop(texts: Texts, round: int) -> list[Conversation]:
    """Agents with the same tools and a task each; what the tools say is real code."""
    talks = []
    for place in range(CLIENTS + 2):
        code = taken(texts.functions, (round * (CLIENTS + 2) + place) * AGENT_TURNS, AGENT_TURNS)
        name = code[0].split("def ", 1)[1].split("(", 1)[0]
        results = [
            {"tool": tool, "status": "ok", "path": f"project/part_{turn}.py", "content": text}
            for turn, (tool, text) in enumerate(zip(("read_file", "search"), code[1:], strict=True))
        ]
        talks.append(
            Conversation(
                (
                    f"Task {round}-{place}: the function {name} fails one of its tests. Find out "
                    "why and mend it.",
                    *(f"Result of the tool:\n{json.dumps(result)}" for result in results),
                ),
                f"Project {round}. {AGENT}",
                most_tokens=LONGEST,
            )
        )
    return talks


def edit(texts: Texts, round: int) -> list[Conversation]:
    """Give back a given code or text with one thing changed."""
    number = CLIENTS
    code = taken(texts.functions, number * round, number)
    prose = taken(texts.problems, number * round, number)
    talks = []
    for place in range(number):
        changed = (
            f"({round}-{place}) Add one comment to this function and return the whole code "
            f"unchanged otherwise:\n\n```python\n{code[place]}```"
        )
        copied = (
            f"({round}-{place}) Repeat the following text word by word, with its spelling "
            f"corrected:\n\n{prose[place][0]} {prose[place][1]}"
        )
        talks += [Conversation((text,), most_tokens=LONGEST) for text in (changed, copied)]
    return talks


UNIQUE_SHORT = Workload("unique_short", unique_short)
SIMULTANEOUS = Workload("shared_prefix_simultaneous", partial(shared_prefix, group="A"))
STAGGERED = Workload("shared_prefix_staggered", partial(shared_prefix, group="B"), stagger_s=0.15)
MULTI_TURN = Workload("multi_turn", multi_turn)
AGENT_LOOP = Workload("agent_loop", agent_loop)
EDIT = Workload("edit", edit, copies=True)
ALL = (UNIQUE_SHORT, SIMULTANEOUS, STAGGERED, MULTI_TURN, AGENT_LOOP, EDIT)

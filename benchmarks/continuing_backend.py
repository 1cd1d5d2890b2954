"""A backend that knows a passage for every number, and goes on with what another one began of it.

    python continuing_backend.py [--port P] [--name two] [--style exact] [--delay-ms 0.3]

The user's text is the number. Styles of going on: `exact`, from the very next letter; `whole`, with
all that was begun once more, as some servers give it back; `repeating`, with its end once more, as
models do that begin a sentence again. Of a text in a loop nobody can tell its end from its going
on: none of those is repeated so.
"""

import argparse
import asyncio
import contextlib
import random
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from upstream_exchange import Asked
from upstream_replies import Script
from upstream_server import UpstreamServer

WORDS: Final = (
    *("the", "canal", "was", "dug", "by", "hand", "in", "two", "summers", "between", "both"),
    *(
        "lakes",
        "and",
        "nobody",
        "who",
        "lived",
        "there",
        "then",
        "knew",
        "how",
        "long",
        "it",
        "would",
    ),
    *("stay", "open", "or", "whom", "it", "would", "serve", "when", "winter", "came", "early"),
)
CHINESE: Final = "运河连接两个湖泊百年来人们在岸边生活贸易往来船只从未停歇春天水位上涨秋天收获粮食"
REPEATED: Final = 48
LOOP: Final = "Again and again: "
STYLES: Final = ("exact", "whole", "repeating")


def passage(number: int) -> str:
    """Text of one of the shapes that answers have; the same for the same number."""
    dice = random.Random(number)

    def words(count: int) -> str:
        return " ".join(dice.choices(WORDS, k=count))

    shape = number % 6
    if shape == 0:
        return " ".join(f"{words(9).capitalize()}." for _ in range(8))
    if shape == 1:
        return (
            "".join(dice.choices(CHINESE, k=30)) + "。\n\n" + "".join(dice.choices(CHINESE, k=80))
        )
    if shape == 2:
        rows = (f"| {dice.choice(WORDS):<10} | {dice.randrange(100):>8} |" for _ in range(9))
        return "| name       |    value |\n|------------|----------|\n" + "\n".join(rows)
    if shape == 3:
        lines = (f"    total += read({word!r})\n" for word in dice.choices(WORDS, k=9))
        return "def total_of():\n    total = 0\n" + "".join(lines) + "    return total\n"
    if shape == 4:
        return "\n".join(f"{at}. {words(7)}" for at in range(1, 12))
    return LOOP + f"{words(5)}, " * 9 + "and so it ends."


class Continuing:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._dice = random.Random(options.name)

    def script(self, asked: Asked) -> Script:
        if asked.method != "POST":
            return Script()
        number, begun = _asked(asked.body)
        answer = (
            f"{self._options.name}: {passage(number)}" if self._options.name else passage(number)
        )
        if begun and answer.startswith(begun):
            answer = self._rest(answer[len(begun) :], begun)
        elif begun:
            answer = " [this is not what it goes on from]"
        pieces, at = [], 0
        while at < len(answer):
            length = self._dice.randint(1, 9)
            pieces.append(answer[at : at + length])
            at += length
        return Script(pieces=tuple(pieces) or ("",), delay_s=self._options.delay_ms / 1000)

    def _rest(self, rest: str, begun: str) -> str:
        if self._options.style == "whole":
            return begun + rest
        repeats = self._options.style == "repeating" and not begun.startswith(LOOP)
        return begun[-REPEATED:] + rest if repeats else rest


def _asked(body: dict[str, Any]) -> tuple[int, str]:
    """Which passage, and what of it an assistant has begun."""
    if "prompt" in body:
        number, _, begun = body["prompt"].partition("\n")
        return int(number), begun
    messages = body["messages"]
    begun = _text(messages[-1]["content"]) if messages[-1]["role"] == "assistant" else ""
    return int(next(_text(one["content"]) for one in messages if one["role"] == "user")), begun


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="")
    parser.add_argument("--style", default="exact", choices=STYLES)
    parser.add_argument("--delay-ms", type=float, default=0.3)
    options = parser.parse_args()
    server = UpstreamServer(choose=Continuing(options).script, remember=False)
    async with await server.serve("127.0.0.1", options.port) as listening:
        print(server.address, flush=True)
        await listening.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())

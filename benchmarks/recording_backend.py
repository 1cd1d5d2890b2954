"""A backend that writes down all it is told, repeats what it was asked, and fails at random.

    python recording_backend.py --record FILE [--faults 0.2] [--contacts] [--late 0.0] [--seed 0]

It answers `Echo: ` and the last text of the user, in small pieces, so that every placeholder in it
is split; with `--contacts` it adds what nobody asked for: a telephone number of its own, different
each time and written down as its own. A conversation that ends with what an assistant began is
gone on with. Where there are tools and the text asks for one, it calls the first with the text.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from upstream_exchange import Asked
from upstream_replies import Script
from upstream_server import UpstreamServer

FAULTS = (
    *("status", "reset", "garbage", "close", "truncated_json", "bad_chunk", "error_event"),
    *("quoting", "late_reset", "late_reset", "late_close", "late_close"),
)
BEGIN = "Echo: "
OTHER_GOING_ON = " and so on"
CALL_WORD = "use the tool"


class Recorder:
    def __init__(self, options: argparse.Namespace, record: TextIO) -> None:
        self._options = options
        self._dice = random.Random(options.seed)
        self._record = record

    def script(self, asked: Asked) -> Script:
        said, begun, tools = _heard(asked.path, asked.body or {})
        contact = self._contact() if self._options.contacts else ""
        self._write(asked, contact)
        if asked.method != "POST":
            return Script()
        if tools and CALL_WORD in said:
            arguments = json.dumps({"text": said}, ensure_ascii=self._dice.random() < 0.5)
            return self._spoiled(Script(pieces=(), tool_calls=(("c1", tools, arguments),)), said)
        answer = BEGIN + said + (f" (ask {contact}, who knows more of it)" if contact else "")
        if begun:
            answer = answer[len(begun) :] if answer.startswith(begun) else OTHER_GOING_ON
        return self._spoiled(Script(pieces=tuple(self._pieces(answer))), said)

    def _contact(self) -> str:
        return f"1{self._dice.choice('3456789')}{''.join(self._dice.choices('0123456789', k=9))}"

    def _pieces(self, text: str) -> list[str]:
        pieces, at = [], 0
        longest = self._dice.choice((3, 9, 40))
        while at < len(text):
            length = self._dice.randint(1, longest)
            pieces.append(text[at : at + length])
            at += length
        return pieces or [""]

    def _spoiled(self, script: Script, said: str) -> Script:
        delay_s = 0.06 if self._dice.random() < self._options.late else 0.0
        if self._dice.random() >= self._options.faults:
            return _changed(script, delay_s=delay_s / 20 if delay_s else 0.0)
        fault = self._dice.choice(FAULTS)
        if fault == "status":
            return Script(fault="status", status=self._dice.choice((500, 503, 529)))
        if fault == "quoting":  # as servers do that show what they did not understand
            return Script(fault="status", status=400, message=f"cannot parse: {said}")
        last = len(script.pieces) + 2
        at = self._dice.randint(2, max(2, last)) if fault.startswith("late") else 0
        fault = fault.removeprefix("late_")
        if not at and fault not in ("reset", "garbage"):
            at = self._dice.randint(0, max(1, last))
        return _changed(script, fault=fault, at=at, message=f"cannot go on: {said}")

    def _write(self, asked: Asked, contact: str) -> None:
        head = "\n".join((asked.path, *(f"{name}: {x}" for name, x in asked.headers.items())))
        body = asked.raw.decode("utf-8", "backslashreplace")
        self._record.write(json.dumps({"head": head, "body": body, "own": contact}) + "\n")
        self._record.flush()


def _changed(script: Script, **changes: Any) -> Script:
    given = {name: getattr(script, name) for name in Script.__dataclass_fields__}
    return Script(**(given | changes))


def _heard(path: str, body: dict[str, Any]) -> tuple[str, str, str]:
    """The user's last text, what an assistant has begun after it, the first tool's name."""
    if not path.endswith(("/messages", "/chat/completions")):
        return str(body.get("prompt", "")), "", ""
    messages = body.get("messages") or []
    begun = ""
    if messages and messages[-1]["role"] == "assistant":
        begun = _text(messages[-1]["content"])
    asked = [one for one in messages if one["role"] == "user" and _text(one["content"])]
    tools = body.get("tools") or [{}]
    name = tools[0].get("name") or tools[0].get("function", {}).get("name", "")
    return _text(asked[-1]["content"]) if asked else "", begun, name


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part.get("type") == "text")
    return content or ""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--late", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contacts", action="store_true")
    options = parser.parse_args()
    with options.record.open("w") as record:
        recorder = Recorder(options, record)
        server = UpstreamServer(choose=recorder.script, remember=False)
        async with await server.serve("127.0.0.1", 0) as listening:
            print(server.address, flush=True)
            await listening.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())

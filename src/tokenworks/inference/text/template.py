"""Renders chat templates, which come from model files and are not trusted."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokenworks.errors import ModelFileError, RequestError

MAX_OUTPUT_CHARACTERS: Final = 4 << 20
MAX_LOOP_STEPS: Final = 100_000  # of all `range` in one rendering
MAX_REPEATED_CHARACTERS: Final = 1 << 16

Messages = Sequence[Mapping[str, object]]


class ChatTemplate:
    """A compiled chat template with what transformers offers to one.

    Bounded in output, in loops over `range` and in what `*` and `**` may build. `now` is the clock
    behind `strftime_now`.
    """

    def __init__(self, source: str, now: Callable[[], datetime]) -> None:
        environment = _Environment()
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda layout: now().strftime(layout)
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(source)
            self.literals = frozenset(
                value[1:-1] for _, kind, value in environment.lex(source) if kind == "string"
            )
        except Exception as problem:  # also the limits of Python's own compiler, say on nesting
            raise ModelFileError(f"The chat template is malformed: {problem}") from None

    def render(self, messages: Messages, variables: Mapping[str, object]) -> str:
        """The prompt up to where the assistant's answer begins.

        `variables` are what a template may know besides the messages. Raises RequestError, with
        the template's own message, if it refuses or cannot render the messages.
        """
        known = {
            "messages": messages,
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
            "range": _Range(),
        }
        try:
            return self._bounded({**variables, **known})
        except TemplateError as problem:
            raise RequestError(
                f"The model's chat template refused the messages: {problem}", param="messages"
            ) from problem
        except Exception as problem:  # a template is a program: it can fail in any way
            raise RequestError(
                f"The model's chat template failed on the messages: {problem}",
                hint="check the roles, and that each content is text",
                param="messages",
            ) from problem

    def _bounded(self, variables: dict[str, object]) -> str:
        pieces: list[str] = []
        room = MAX_OUTPUT_CHARACTERS
        for piece in self._template.generate(variables):
            room -= len(piece)
            if room < 0:
                raise TemplateError(f"more than {MAX_OUTPUT_CHARACTERS} characters of output")
            pieces.append(piece)
        return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        for factor in (left, right):
            if isinstance(factor, int) and abs(factor) > MAX_REPEATED_CHARACTERS:
                raise TemplateError(f"{operator} with a number beyond {MAX_REPEATED_CHARACTERS}")
        if operator == "**" and isinstance(right, int) and right > 64:
            raise TemplateError("** with an exponent beyond 64")
        if operator == "*":
            sized = next((side for side in (left, right) if isinstance(side, str | list)), "")
            times = next((side for side in (left, right) if isinstance(side, int)), 0)
            if len(sized) * times > MAX_REPEATED_CHARACTERS:
                raise TemplateError(f"* makes more than {MAX_REPEATED_CHARACTERS} characters")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}` marks what training learns from; for a prompt it is its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja's own interface)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Range:
    """`range` with one allowance for a whole rendering, so that nested loops end too."""

    def __init__(self) -> None:
        self._left = MAX_LOOP_STEPS

    def __call__(self, *bounds: int) -> range:
        steps = range(*bounds)
        self._left -= len(steps)
        if self._left < 0:
            raise TemplateError(f"more than {MAX_LOOP_STEPS} steps of range")
        return steps


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )

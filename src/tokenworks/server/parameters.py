"""The request parameters of the OpenAI API: which are honoured, ignored, or refused, and why.

A parameter that would change the answer is never dropped silently: it is honoured, or refused with
its name; one that is unknown is refused with the nearest known name.
"""

from difflib import get_close_matches
from typing import Annotated, Any, NoReturn, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tokenworks.errors import RequestError
from tokenworks.server.conversation import Message
from tokenworks.server.passed_on import PASSED_ON, asks_for_nothing, further_of
from tokenworks.server.shown import shown, shown_name

MOST_STOPS = 16
LONGEST_STOP = 256
MOST_LOGPROBS = 20
MOST_CHOICES = 16
MOST_BIASES = 1024
LARGEST_BIAS = 100.0
MOST_OPTIONS = 16
LONGEST_DEADLINE_S = 86400.0
TIERS = {"auto": 0, "default": 0, "scale": 0, "flex": -5, "priority": 5}
"""OpenAI's service tiers, as priorities."""
LONGEST_OPTION = 256

Options = dict[str, bool | int | float | str]
OWN_VARIABLES = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "range"}
)
"""What a chat template is told already."""

_NOTHING: tuple[object, ...] = (None,)
_EMPTY: tuple[object, ...] = (None, [], {})

UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "best_of": (None, 1),
    "functions": _EMPTY,
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": _NOTHING,
    "web_search_options": _NOTHING,
    "echo": (None, False),
    "suffix": (None, ""),
    "store": (None, False),
}
"""Parameters that are known but not supported, with the values that ask for nothing."""

IGNORED = frozenset(
    {
        "user",
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "verbosity",
    }
)
"""Parameters that cannot change an answer here."""


def _stops(stop: object) -> object:
    if stop is None:
        return ()
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise ValueError("must be a string or a list of strings")
    if len(stops) > MOST_STOPS:
        raise ValueError(f"has {len(stops)} strings; at most {MOST_STOPS} are allowed")
    if not all(0 < len(text) <= LONGEST_STOP for text in stops):
        raise ValueError(f"each string must have 1 to {LONGEST_STOP} characters")
    return tuple(stops)


def _biases(biases: object) -> object:
    """`{"token id": bias}` as pairs; None for none."""
    if biases is None:
        return ()
    if not isinstance(biases, dict):
        raise ValueError('must be an object like {"50256": -100}')
    if len(biases) > MOST_BIASES:
        raise ValueError(f"has {len(biases)} tokens; at most {MOST_BIASES} are allowed")
    return tuple((_token_id(name), _bias(name, value)) for name, value in biases.items())


def _token_id(name: str) -> int:
    # One spelling a token: "7" and "07" would be two biases for it.
    if not (name.isascii() and name.isdecimal() and len(name) < 10 and str(int(name)) == name):
        raise ValueError(f"{shown(name)} is not a token id: an integer from 0, as a string")
    return int(name)


def _bias(name: str, value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None or not -LARGEST_BIAS <= number <= LARGEST_BIAS:
        raise ValueError(f"the bias of token {name} must be a number from -100 to 100")
    return float(number)


def template_options(options: object) -> object:
    """What a chat template may be told: short scalars, none that the server itself says."""
    if not isinstance(options, dict) or len(options) > MOST_OPTIONS:
        raise ValueError(f"must be an object of at most {MOST_OPTIONS} options")
    for name, value in options.items():
        if name in OWN_VARIABLES:
            raise ValueError(f"{name!r} is not for requests to say")
        if not isinstance(value, bool | int | float | str) or len(str(value)) > LONGEST_OPTION:
            raise ValueError(f"{shown(name)} must be a boolean, a number or a short string")
    return options


def _tier(tier: object) -> object:
    """A service tier as a priority; None if none is asked for."""
    if tier is None:
        return None
    if not isinstance(tier, str) or tier not in TIERS:
        raise ValueError(f"must be one of {', '.join(TIERS)}")
    return TIERS[tier]


def _one_prompt(prompt: object) -> object:
    """Text, token ids, or a list with one of these."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(type(token) is int and token >= 0 for token in prompt):
        return prompt
    if isinstance(prompt, list) and all(isinstance(item, str | list) for item in prompt):
        raise ValueError(f"holds {len(prompt)} prompts; send one a request")
    raise ValueError("must be a string or a list of token ids (integers from 0)")


def _check_public(wanted: int | None, length: int, unit: str) -> None:
    if (wanted or 0) > length:
        raise ValueError(f"public_prefix is {wanted}, but there are only {length} {unit}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class Parameters(_Strict):
    """What both APIs have in common."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_stops)] = ()
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    logit_bias: Annotated[tuple[tuple[int, float], ...], BeforeValidator(_biases)] = ()
    min_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    priority: Annotated[int, Field(ge=-10, le=10)] | None = None
    service_tier: Annotated[int | None, BeforeValidator(_tier)] = None
    deadline_s: Annotated[float, Field(gt=0, le=LONGEST_DEADLINE_S)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    public_prefix: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream = true")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatParameters(Parameters):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    chat_template_kwargs: Annotated[Options, BeforeValidator(template_options)] | None = None
    further: Annotated[dict[str, Any], Field(exclude=True)] = {}  # what is passed on as it is

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs = true")
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        _check_public(self.public_prefix, len(self.messages), "messages")
        return self


class CompletionParameters(Parameters):
    prompt: Annotated[str | list[int], BeforeValidator(_one_prompt)]
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    echo: bool | None = None

    @model_validator(mode="after")
    def _something_is_wanted(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 is only allowed with echo = true")
        unit = "characters" if isinstance(self.prompt, str) else "tokens"
        _check_public(self.public_prefix, len(self.prompt), unit)
        return self


P = TypeVar("P", bound=Parameters)


def read_parameters(kind: type[P], body: dict[str, object]) -> P:
    """Check a request's JSON object. Raises RequestError naming what to change."""
    wanted: dict[str, object] = {}
    chat = issubclass(kind, ChatParameters)
    for name, value in body.items():
        if name in kind.model_fields and name != "further":
            wanted[name] = value
        elif name in UNSUPPORTED:
            _refuse_unless_neutral(name, value, UNSUPPORTED[name])
        elif name in PASSED_ON:
            if not chat:
                _refuse_unless_neutral(name, value, PASSED_ON[name])
        elif name not in IGNORED:
            refuse_unknown(name, {*kind.model_fields, *PASSED_ON, *UNSUPPORTED, *IGNORED})
    if chat and (further := further_of(body)):
        wanted["further"] = further
    try:
        return kind.model_validate(wanted)
    except ValidationError as error:
        raise explained(error) from None


def _refuse_unless_neutral(name: str, value: object, neutral: tuple[object, ...]) -> None:
    if asks_for_nothing(value, neutral):
        return
    raise RequestError(
        f"The parameter {name!r} is not supported with the value {shown(value)}",
        hint="leave it out",
        param=name,
    )


def refuse_unknown(name: str, known: set[str]) -> NoReturn:
    """Raise RequestError for a parameter that is none, naming the nearest of those there are."""
    # Comparing takes time in proportion to the name, and a name can be as long as a body.
    near = get_close_matches(name[:100], known, n=1)
    raise RequestError(
        f"Unknown parameter {shown_name(name)!r}",
        hint=f"did you mean {near[0]!r}?" if near else "leave it out",
        param=name if name == shown_name(name) else None,
    )


def explained(error: ValidationError) -> RequestError:
    """What is wrong with a request, of which pydantic says more than a person wants to read."""
    first = error.errors(include_url=False)[0]
    path = ""
    for step in first["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{shown_name(step)}"
    path = path.lstrip(".")
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "union_tag_invalid":  # pydantic's own words show the tag, however long
        text = "{discriminator} must be one of {expected_tags}".format_map(first["ctx"])
    if first["type"] == "missing":
        return RequestError(f"The parameter {path!r} is missing", param=path)
    if first["type"] == "extra_forbidden":
        return RequestError(f"Unknown parameter {path!r}", hint="leave it out", param=path)
    if not path:
        return RequestError(text)
    given = "" if "Value error" in first["msg"] else f" (got {shown(first['input'])})"
    return RequestError(f"{path}: {text}{given}", param=path)

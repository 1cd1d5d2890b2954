"""What is known of a backend that is reached by HTTP: where it is, what it may see, what it can."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec

from tokenworks.errors import ConfigError, RequestError
from tokenworks.gateway.backend import Tier
from tokenworks.gateway.labels import Label, label_of
from tokenworks.gateway.upstream.address import Endpoint, endpoint_of

Ability = Literal["tools", "schema", "vision", "extended", "embeddings"]
"""`extended`: takes what vLLM, SGLang and llama-server add to OpenAI's API (top_k, min_p,
repetition_penalty, min_tokens and variables of the chat template). `embeddings`: makes vectors of
texts, by OpenAI's /embeddings."""

Continues = Literal["no", "continue_final_message", "prefill", "prefix"]
"""How a backend is told to go on with an assistant message: by `continue_final_message` (vLLM,
SGLang, llama-server), by that message being the last (Anthropic's older models, llama-server), by
`prefix` in it (Mistral, DeepSeek), or not at all."""

_LONGEST_KEY = 4096


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raises ConfigError for a value out of range."""

    concurrent: int = 64  # requests at one time
    connect_s: float = 5.0  # until a connection stands, TLS included
    first_byte_s: float = 120.0  # until the first event of an answer
    idle_s: float = 60.0  # from one event to the next
    total_s: float = 3600.0  # for a whole answer

    def __post_init__(self) -> None:
        if not 1 <= self.concurrent <= 100_000:
            raise ConfigError(f"limits.concurrent {self.concurrent} is not between 1 and 100000")
        for name in ("connect_s", "first_byte_s", "idle_s", "total_s"):
            value = getattr(self, name)
            if not 0.01 <= value <= 86400:
                raise ConfigError(f"limits.{name} {value:g} is not between 0.01 and 86400")


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money for a million tokens, in place of what the price book says."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None  # as `input` if not given
    currency: Literal["USD"] = "USD"

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input"):
            value = getattr(self, name)
            if value is not None and not (value.is_finite() and 0 <= value <= 1_000_000):
                raise ConfigError(f"prices.{name} {value} is not between 0 and 1000000")


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backend. Holds no secret: only where its key is. Raises ConfigError."""

    name: str
    url: str  # as the dialect's own client takes it: https://api.openai.com/v1
    models: dict[str, str]  # our name of each model -> the backend's own
    tier: Tier
    dialect: Literal["openai", "anthropic"] = "openai"
    api_key_variable: str = ""  # environment variable that holds its key
    api_key_file: str = ""  # or the file that does
    clearance: str = "public"  # the highest label it may see
    context_length: int = 0  # tokens of prompt and answer; 0: not known
    answer_tokens: int = 4096  # an answer's most, where a request says nothing and one must be said
    abilities: tuple[Ability, ...] = ()
    continues: Continues = "no"
    prices: Prices | None = None
    region: str = ""  # where its machines stand, for people and policies
    engine: str = ""  # what computes: backends of the same name answer alike, the seed given
    energy_j_per_token: float | None = None  # an estimate, for the ledger
    limits: Limits = Limits()
    allow_private: bool | None = None  # addresses of our own networks; None: unless tier is cloud
    ca_file: str = ""  # certificates to trust beside the system's
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    omit: tuple[Literal["seed", "stream_options"], ...] = ()  # fields it does not know

    def __post_init__(self) -> None:
        if not (0 < len(self.name) <= 64 and self.name.isprintable()):
            raise ConfigError(f"A backend's name must have 1 to 64 characters: {self.name[:80]!r}")
        if not self.models or not all(ours and theirs for ours, theirs in self.models.items()):
            raise ConfigError(f"The backend {self.name!r} needs models = {{ours = 'theirs'}}")
        if self.api_key_variable and self.api_key_file:
            raise ConfigError(f"The backend {self.name!r} has two sources of its key; give one")
        if self.energy_j_per_token is not None and not 0 <= self.energy_j_per_token <= 1e6:
            raise ConfigError(f"The backend {self.name!r}: energy_j_per_token is not from 0 to 1e6")
        if self.context_length < 0 or self.answer_tokens < 1:
            raise ConfigError(f"The backend {self.name!r} has a length that is none")
        self.label()
        self.endpoint()
        self._check_continues()

    def _check_continues(self) -> None:
        if self.dialect == "anthropic" and self.continues not in ("no", "prefill"):
            raise ConfigError(
                f"The backend {self.name!r} cannot continue by {self.continues!r} in the dialect "
                "'anthropic'",
                hint="write continues = 'prefill' or 'no'",
            )

    def label(self) -> Label:
        """The highest label that it may see."""
        try:
            return label_of(self.clearance)
        except RequestError as error:
            raise ConfigError(f"The backend {self.name!r}: {error.message}") from None

    def endpoint(self) -> Endpoint:
        private = self.tier != "cloud" if self.allow_private is None else self.allow_private
        return endpoint_of(self.url, allow_private=private)

    def read_key(self, environment: Mapping[str, str]) -> "Key":
        """Its key, now. Raises ConfigError, which never shows it."""
        if self.api_key_file:
            try:
                text = Path(self.api_key_file).expanduser().read_text("utf-8")
            except (OSError, ValueError, RuntimeError) as error:
                what = getattr(error, "strerror", None) or "it is not UTF-8, or no path"
                raise ConfigError(
                    f"The key of the backend {self.name!r} cannot be read from "
                    f"{self.api_key_file!r}: {what}"
                ) from None
        elif self.api_key_variable:
            text = environment.get(self.api_key_variable, "")
        else:
            return Key("")
        key = text.strip()
        if not (key.isascii() and key.isprintable() and 0 < len(key) <= _LONGEST_KEY):
            where = self.api_key_file or f"the variable {self.api_key_variable}"
            raise ConfigError(f"The key of the backend {self.name!r} is no key: see {where}")
        return Key(key)


class Key:
    """A secret that no message, log line or dump shows by accident. `reveal` is for the wire."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Key(***)" if self._text else "Key()"

    def reveal(self) -> str:
        return self._text

    def __reduce__(self) -> str:
        raise TypeError("a key is not stored or sent")

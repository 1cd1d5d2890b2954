"""Reads what a Hugging Face folder says of its tokenizer beside the vocabulary itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from tokenworks.inference.text.added_tokens import AddedEntry
from tokenworks.inference.text.files import file_error, read_json, read_text
from tokenworks.inference.text.frame import Frame

_Token = str | AddedEntry | None


class _Names(msgspec.Struct):
    bos_token: _Token = None
    eos_token: _Token = None
    unk_token: _Token = None
    sep_token: _Token = None
    pad_token: _Token = None
    cls_token: _Token = None
    mask_token: _Token = None
    additional_special_tokens: list[str | AddedEntry] | None = None
    extra_special_tokens: list[str | AddedEntry] | dict[str, str | AddedEntry] | None = None

    def named(self) -> dict[str, str]:
        values = {name: getattr(self, name) for name in _NAMES}
        return {name: _text(value) for name, value in values.items() if value}

    def others(self) -> Iterator[str]:
        extra = self.extra_special_tokens or []
        yield from map(_text, self.additional_special_tokens or [])
        yield from map(_text, extra.values() if isinstance(extra, dict) else extra)


_NAMES: Final = tuple(
    f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
)


class _Template(msgspec.Struct):
    name: str
    template: str


class _Config(_Names):
    added_tokens_decoder: dict[str, AddedEntry] = {}
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    chat_template: str | list[_Template] | None = None


class _Generation(msgspec.Struct):
    eos_token_id: int | list[int] | None = None


@dataclass(frozen=True)
class FolderSettings:
    """`named` are special tokens by name ("bos_token"), `control` the texts of control tokens.

    `added` are tokens by id that the vocabulary may lack, `ends` further tokens that end an answer.
    """

    named: Mapping[str, str]
    control: frozenset[str]
    added: Mapping[int, AddedEntry]
    ends: tuple[int, ...]
    template: str | None
    config: _Config

    def framed(self, frame: Frame, bos: int | None, eos: int | None) -> Frame:
        """The frame with `bos` and `eos` in it or not, where `add_bos_token` and so on say so."""
        begin, end = frame
        begin = _with(begin, bos, self.config.add_bos_token, first=True)
        return begin, _with(end, eos, self.config.add_eos_token, first=False)


def read_settings(folder: Path) -> FolderSettings:
    """Every file may be missing. Raises ModelFileError, naming the file, for a malformed one."""
    config = _optional(folder / "tokenizer_config.json", _Config)
    names = _optional(folder / "special_tokens_map.json", _Names)
    generation = _optional(folder / "generation_config.json", _Generation)
    named = {**names.named(), **config.named()}
    unknown = named.get("unk_token")
    steering = (t for name, t in named.items() if name not in ("unk_token", "pad_token"))
    padding = (text for text in (named.get("pad_token"),) if text and text != unknown)
    ends = generation.eos_token_id
    return FolderSettings(
        named=named,
        control=frozenset((*steering, *padding, *names.others(), *config.others())),
        added=_added(folder, config),
        ends=tuple(ends if isinstance(ends, list) else [] if ends is None else [ends]),
        template=_template(folder, config),
        config=config,
    )


_Shape = TypeVar("_Shape", _Config, _Names, _Generation)


def _optional(path: Path, type: type[_Shape]) -> _Shape:
    return read_json(path, type) if path.exists() else type()


def _text(token: str | AddedEntry) -> str:
    return token if isinstance(token, str) else token.content


def _added(folder: Path, config: _Config) -> dict[int, AddedEntry]:
    path = folder / "added_tokens.json"
    plain = read_json(path, dict[str, int]) if path.exists() else {}
    added = {index: AddedEntry(text) for text, index in plain.items()}
    for index, entry in config.added_tokens_decoder.items():
        if not index.isdecimal() or len(index) > 9:
            raise file_error(
                folder / "tokenizer_config.json", f"names the added token {index[:20]!r}, no id"
            )
        added[int(index)] = entry
    return added


def _template(folder: Path, config: _Config) -> str | None:
    """The folder's chat template; of several the one named "default"."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return read_text(path)
    if not isinstance(config.chat_template, list):
        return config.chat_template
    return next((x.template for x in config.chat_template if x.name == "default"), None)


def _with(
    side: tuple[int, ...], token: int | None, wanted: bool | None, *, first: bool
) -> tuple[int, ...]:
    if wanted is None or token is None:
        return side
    others = tuple(other for other in side if other != token)
    if not wanted:
        return others
    return (token, *others) if first else (*others, token)

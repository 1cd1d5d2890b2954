"""The policies of this gateway: one file, read whole or not at all, read again while it runs."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from tokenworks.errors import ConfigError, ModelFileError, RequestError
from tokenworks.gateway.failover import WhenBroken
from tokenworks.gateway.labels import Label, label_of
from tokenworks.gateway.model_choice import ModelChooser, QualityPolicy
from tokenworks.gateway.privacy.entities import KINDS
from tokenworks.gateway.quality.files import load
from tokenworks.gateway.ranking import RoutingSettings
from tokenworks.gateway.upstream.settings import UpstreamSettings

LARGEST_FILE = 1 << 20


def _label(word: str) -> Label:
    try:
        return label_of(word)
    except RequestError as error:
        raise ConfigError(f"labels: {error.message}") from None


class LabelPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which label data has, beside the one that its caller gives it."""

    default: str = "internal"  # what nobody has labelled
    detect: bool = True  # look for personal data and credentials in every text
    kinds: dict[str, str] = {}  # the label a kind of finding calls for, where not as built in
    mask: tuple[str, ...] = ()  # kinds that may be masked, so that the rest may go further
    unreadable: str = "private"  # what nobody can look into: images, bare token ids

    def __post_init__(self) -> None:
        for word in (self.default, self.unreadable, *self.kinds.values()):
            _label(word)
        unknown = [kind for kind in (*self.kinds, *self.mask) if kind not in KINDS]
        if unknown:
            raise ConfigError(
                f"labels: {unknown[0]!r} is no kind of finding",
                hint=f"there are {', '.join(KINDS)}",
            )

    @property
    def floor(self) -> Label:
        return _label(self.default)

    @property
    def unread(self) -> Label:
        return _label(self.unreadable)

    def of_kinds(self) -> dict[str, Label]:
        """What differs from the built-in labels of kinds."""
        return {kind: _label(word) for kind, word in self.kinds.items()}


class FailoverPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when a backend fails, or is slow to begin."""

    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3  # backends asked for one answer
    when_broken: WhenBroken = "error"  # of an answer that none can go on with: error, or restart
    hedge_after_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 0.0  # ask a second one; 0: never


class Policies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    labels: LabelPolicy = LabelPolicy()
    routing: RoutingSettings = RoutingSettings()
    failover: FailoverPolicy = FailoverPolicy()
    quality: QualityPolicy | None = None
    backends: tuple[UpstreamSettings, ...] = ()

    def __post_init__(self) -> None:
        self._check_quality()
        names = [backend.name for backend in self.backends]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"Two backends have the name {sorted(twice)[0]!r}")

    def _check_quality(self) -> None:
        quality = self.quality
        if quality is None:
            return
        served = {model.casefold() for backend in self.backends for model in backend.models}
        if quality.model.casefold() in served:
            raise ConfigError(f"quality.model: a backend serves {quality.model!r} already")
        if quality.quality is not None and self.routing.objective == "quality":
            raise ConfigError(
                "quality.quality says what to keep at the lowest cost, routing.objective "
                "'quality' that cost does not count",
                hint="leave one of them out",
            )


def read_policies(text: str, origin: str) -> Policies:
    """Check all of it. Raises ConfigError that says where, and what was found there."""
    try:
        return policies_of(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ConfigError) as error:
        hint = error.hint if isinstance(error, ConfigError) else None
        what = error.message if isinstance(error, ConfigError) else str(error)
        raise ConfigError(f"The policies in {origin} do not hold: {what}", hint=hint) from None


def policies_of(tables: Mapping[str, object]) -> Policies:
    """Raises ConfigError."""
    try:
        return msgspec.convert(tables, Policies)
    except msgspec.ValidationError as error:
        # A problem that a struct's own check found comes wrapped, with its place.
        cause = error.__cause__
        text = str(error).replace("`", "'").replace("$.", "")
        raise ConfigError(text, hint=getattr(cause, "hint", None)) from None


Held = tuple[Policies, ModelChooser | None]
"""What holds together."""


class PolicyFile:
    """The policies that hold now. A file that is wrong leaves those that held before, and so does
    a router's file that they name.

    An empty path: the policies that are built in, for ever.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: dict[Path, tuple[int, int, int] | None] = {}
        self.current = Policies()
        self.chooser: ModelChooser | None = None  # chooses between models, as `current` says
        self.problem = ""  # why the file as it is now does not hold, for people
        if path is not None:
            self.current, self.chooser = self._read(path)

    def news(self) -> Held | None:
        """What the file says, if it or its router's has changed, and says something else than what
        holds. `take` it once its backends can be used; else the `problem` is why not.

        Raises ConfigError.
        """
        path = self._path
        if path is None or all(self._mark(file) == mark for file, mark in self._seen.items()):
            return None
        try:
            read = self._read(path)
        except ConfigError as error:
            self.problem = error.message
            raise
        self.problem = ""
        return None if read == (self.current, self.chooser) else read

    def take(self, held: Held) -> None:
        """These hold from now on."""
        self.current, self.chooser = held

    def _read(self, path: Path) -> Held:
        self._seen = {path: self._mark(path)}
        policies = read_policies(self._text(path), f"'{path}'")
        if policies.quality is None:
            return policies, None
        file = path.parent / Path(policies.quality.router).expanduser()
        self._seen[file] = self._mark(file)
        try:
            return policies, ModelChooser.of(policies.quality, load(file))
        except (ConfigError, ModelFileError) as error:
            raise ConfigError(
                f"The policies in '{path}' do not hold: {error.message}", hint=error.hint
            ) from None

    @staticmethod
    def _text(path: Path) -> str:
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
            if len(data) > LARGEST_FILE:
                raise ConfigError(f"The policies in '{path}' have more than {LARGEST_FILE} bytes")
            return data.decode("utf-8")
        except OSError as error:
            raise ConfigError(f"The policies cannot be read: '{path}': {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"The policies in '{path}' are not UTF-8") from None

    @staticmethod
    def _mark(path: Path) -> tuple[int, int, int] | None:
        """What changes with a file, also where it is replaced by another."""
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

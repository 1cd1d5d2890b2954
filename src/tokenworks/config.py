"""Composes each package's frozen settings, once: flag > environment > file > default.

Knows nothing about what a setting means: names, types and bounds come from the packages' structs.
The only module that reads environment variables.

A setting `threads` of the section `engine` is `engine.threads` in messages, `threads` under
`[engine]` in `tokenworks.toml`, and `TOKENWORKS_ENGINE_THREADS` in the environment. Fields without
a default, or of structs of their own (known only once a model is chosen), are no settings: they
stay empty here and the caller fills them.
"""

import difflib
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import NODEFAULT, inspect

from tokenworks.errors import ConfigError
from tokenworks.gateway.settings import GatewaySettings
from tokenworks.inference.models.catalogue import DEFAULT_MODEL
from tokenworks.inference.settings import EngineSettings
from tokenworks.server.settings import ServerSettings
from tokenworks.store.home import Home, default_root
from tokenworks.telemetry.settings import TelemetrySettings

S = TypeVar("S", bound=msgspec.Struct)

PREFIX = "TOKENWORKS_"
FILE_NAME = "tokenworks.toml"
NOT_SETTINGS = frozenset({"TOKENWORKS_CONFIG", "TOKENWORKS_SOAK"})
"""Variables with our prefix that are no settings: where the file is, and how long our tests run."""


class GeneralSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to no single package."""

    home: str = ""  # state folder; empty is the platform's place for user data
    model: str = DEFAULT_MODEL  # name in `tokenworks models list`, a source or a path
    draft_model: str = ""  # a smaller one of the same vocabulary, which guesses; empty: none


SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "": GeneralSettings,
    "server": ServerSettings,
    "engine": EngineSettings,
    "gateway": GatewaySettings,
    "telemetry": TelemetrySettings,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing a person may set."""

    section: str
    name: str
    type: Any
    default: object

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        return PREFIX + self.key.replace(".", "_").upper()


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody gave for a setting, and where, in words. `text`: it arrived as a string."""

    value: object
    origin: str
    text: bool


@dataclass(frozen=True, slots=True)
class Config:
    """Everything decided at start. `origins` says where each value that is no default came from."""

    home: Home
    model: str
    draft_model: str
    server: ServerSettings
    engine: EngineSettings
    gateway: GatewaySettings
    telemetry: TelemetrySettings
    origins: Mapping[str, str]


def every_setting(sections: Mapping[str, type[msgspec.Struct]] = SECTIONS) -> Iterator[Setting]:
    """All settings of all sections, in the order they are declared."""
    for section, struct in sections.items():
        for field in msgspec.structs.fields(struct):
            if field.required or _is_struct(field.type):
                continue
            default = field.default_factory() if field.default is NODEFAULT else field.default
            yield Setting(section, field.name, field.type, default)


def load(
    flags: Mapping[str, object] | None = None,
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Config:
    """Read flags (by key, None meaning not given), environment and file, and compose the settings.

    Raises ConfigError naming key, value, origin and the nearest valid one.
    """
    environment = os.environ if environment is None else environment
    above = [from_flags(flags or {}), from_environment(environment)]
    file = find_file(config_file, environment, folder or Path.cwd(), root=_root(above, environment))
    given = merge(*above, from_file(file) if file else {})
    general = compose("", GeneralSettings, given)
    return Config(
        home=Home(_root([given], environment)),
        model=general.model,
        draft_model=general.draft_model,
        server=compose("server", ServerSettings, given),
        engine=compose("engine", EngineSettings, given),
        gateway=compose("gateway", GatewaySettings, given),
        telemetry=compose("telemetry", TelemetrySettings, given),
        origins={key: item.origin for key, item in given.items()},
    )


def network_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that decide where libraries fetch from. Values may hold secrets."""
    environment = os.environ if environment is None else environment
    names = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    wanted = (*names, *proxies, *(name.lower() for name in proxies))
    return {name: environment[name] for name in wanted if environment.get(name)}


def environment_variables() -> Mapping[str, str]:
    """All of them, for what policies name: where the keys of backends are. Values are secrets."""
    return os.environ


def otlp_endpoint(environment: Mapping[str, str] | None = None) -> str:
    """The collector that OpenTelemetry's own variables name for every program of this user; empty
    if there is none, or none is wanted."""
    environment = os.environ if environment is None else environment
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    return environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")


def service_manager(environment: Mapping[str, str] | None = None) -> str:
    """The address at which a service manager waits to hear of us; empty if there is none."""
    environment = os.environ if environment is None else environment
    return environment.get("NOTIFY_SOCKET", "")


def merge(*layers: Mapping[str, Given]) -> dict[str, Given]:
    """Combine layers, the first that knows a key deciding."""
    merged: dict[str, Given] = {}
    for layer in reversed(layers):
        merged.update(layer)
    return merged


def from_flags(flags: Mapping[str, object]) -> dict[str, Given]:
    return {
        key: Given(value, f"flag --{key.rpartition('.')[2].replace('_', '-')}", text=False)
        for key, value in flags.items()
        if value is not None
    }


def from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    """Every `TOKENWORKS_*` variable; one that names no setting is an error."""
    known = {setting.variable: setting for setting in every_setting()}
    given = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable not in known:
            raise ConfigError(
                f"Environment variable '{variable}' is no setting of Tokenworks",
                hint=_nearest_name(variable, known, "unset it; see docs/reference/settings.md"),
            )
        given[known[variable].key] = Given(value, f"environment {variable}", text=True)
    return given


def find_file(
    named: Path | None, environment: Mapping[str, str], folder: Path, *, root: Path
) -> Path | None:
    """The one settings file that counts: named > in the current folder > in the state folder."""
    if named is None and environment.get("TOKENWORKS_CONFIG"):
        named = Path(environment["TOKENWORKS_CONFIG"])
    if named is not None:
        if not named.is_file():
            raise ConfigError(
                f"There is no settings file '{named}'",
                hint="give another --config, or none to go without",
            )
        return named
    return next((path for place in (folder, root) if (path := place / FILE_NAME).is_file()), None)


def from_file(path: Path) -> dict[str, Given]:
    """Read `tokenworks.toml`; an unknown section or key is an error."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"Cannot read the settings file '{path}': {error}", hint="correct it, or move it away"
        ) from error
    known = {setting.key for setting in every_setting()}
    given = {}
    for key, value in _flatten(tables):
        if key not in known:
            raise ConfigError(
                f"'{key}' in {path} is no setting of Tokenworks",
                hint=_nearest_name(key, known, "remove it; see docs/reference/settings.md"),
            )
        given[key] = Given(value, f"file {path}", text=False)
    return given


def compose(section: str, struct: type[S], given: Mapping[str, Given]) -> S:
    """Build one package's settings from what was given and the defaults."""
    values: dict[str, object] = {
        field.name: field.type() for field in msgspec.structs.fields(struct) if field.required
    }
    origins = []
    for setting in every_setting({section: struct}):
        if setting.key in given:
            values[setting.name] = convert(setting, given[setting.key])
            origins.append(f"{setting.key} from {given[setting.key].origin}")
    try:
        return struct(**values)
    except ConfigError as error:
        raise ConfigError(
            f"{error.message} ({', '.join(origins) or 'by default'})", hint=error.hint
        ) from error


def convert(setting: Setting, given: Given) -> object:
    """The value in the setting's own type; ConfigError if it does not fit."""
    value = given.value
    if given.text and _is_list(setting.type):
        value = [part.strip() for part in str(value).split(",") if part.strip()]
    try:
        return msgspec.convert(value, setting.type, strict=not given.text)
    except msgspec.ValidationError as error:
        problem = str(error).replace("`", "")
        raise ConfigError(
            f"Setting {setting.key} cannot be '{given.value}' ({given.origin}): {problem}",
            hint=f"the nearest valid value is {nearest_valid(setting, given.value)}",
        ) from error


def nearest_valid(setting: Setting, value: object) -> str:
    """A valid value close to a bad one, for a hint."""
    kind = inspect.type_info(setting.type)
    if isinstance(kind, inspect.UnionType):
        kind = next(member for member in kind.types if not isinstance(member, inspect.NoneType))
    if isinstance(kind, inspect.LiteralType):
        allowed = [str(choice) for choice in kind.values]
        close = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.0)
        return f"'{close[0]}' (one of: {', '.join(allowed)})"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _nearest_number(kind, setting.default, value)
    return f"the default, '{setting.default}'"


def _nearest_number(
    kind: inspect.IntType | inspect.FloatType, default: object, value: object
) -> str:
    try:
        number = float(str(value))
    except ValueError:
        return f"the default, {default}"
    if not math.isfinite(number):
        return f"the default, {default}"
    if kind.ge is not None and number < kind.ge:
        return str(kind.ge)
    if kind.le is not None and number > kind.le:
        return str(kind.le)
    return str(round(number)) if isinstance(kind, inspect.IntType) else f"the default, {default}"


def _root(layers: list[dict[str, Given]], environment: Mapping[str, str]) -> Path:
    home = merge(*layers).get("home")
    try:
        if home and home.value:
            return Path(str(home.value)).expanduser().absolute()
        return default_root(environment.get("XDG_DATA_HOME", ""))
    except RuntimeError as error:  # no such user, or one without an entry and HOME
        raise ConfigError(
            f"The state folder cannot be found: {error}",
            hint="name it in full: export TOKENWORKS_HOME=FOLDER",
        ) from None


def _flatten(tables: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _is_list(kind: object) -> bool:
    info = inspect.type_info(kind)
    return isinstance(info, inspect.ListType | inspect.VarTupleType | inspect.SetType)


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _nearest_name(name: str, known: Mapping[str, object] | set[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else otherwise

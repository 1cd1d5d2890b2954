"""Start-up settings of the server: where it listens, whom it lets in, what it bears."""

import ipaddress
import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from tokenworks.errors import ConfigError

_SHORTEST_KEY = 16
LabelWord = Literal["public", "internal", "private", "secret"]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Raises ConfigError for a value out of range or a contradiction.

    Beyond loopback a key is required: whoever reaches the port could use the machine.
    """

    host: str = "127.0.0.1"  # address to listen on
    port: int = 8410  # 0 takes any free port
    api_key_file: str = ""  # file with the key that clients must send as "Authorization: Bearer …"
    allowed_hosts: tuple[str, ...] = ()  # further names this server is reached by (Host header)
    allowed_origins: tuple[str, ...] = ()  # web pages elsewhere that may call, e.g. https://a.b
    drain_seconds: float = 20.0  # how long running answers may take to end at shutdown
    max_body_bytes: int = 4 * 1024 * 1024  # size of a request
    max_nesting: int = 32  # depth of JSON in a request
    responses_mb: int = 256  # room for all responses that are kept; 0: none is
    responses_days: float = 30.0  # how long a response is kept
    responses_label: LabelWord = "secret"  # the highest label of what is kept

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if not 0 <= self.drain_seconds <= 3600:
            raise ConfigError(f"drain_seconds {self.drain_seconds:g} is not between 0 and 3600")
        if self.max_body_bytes < 1024:
            raise ConfigError(f"max_body_bytes {self.max_body_bytes} is less than 1024")
        if not 8 <= self.max_nesting <= 200:
            raise ConfigError(f"max_nesting {self.max_nesting} is not between 8 and 200")
        if not 0 <= self.responses_mb <= 1 << 20:
            raise ConfigError(f"responses_mb {self.responses_mb} is not between 0 and 1048576")
        if not 0 < self.responses_days <= 36_600:
            raise ConfigError(f"responses_days {self.responses_days:g} is not between 0 and 36600")
        for origin in self.allowed_origins:
            _check_origin(origin)
        if not is_loopback(self.host) and not self.api_key_file:
            raise ConfigError(
                f"host {self.host!r} can be reached from other machines, and no key is set",
                hint="give --api-key-file FILE (any secret of 16 or more characters), "
                "or listen on 127.0.0.1",
            )


@lru_cache(maxsize=256)  # the same few names come with each request
def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url_of(host: str, port: int) -> str:
    """Where people reach what listens on `host`, e.g. `http://127.0.0.1:8410`."""
    host = host.strip("[]")
    # The wildcard is an address to listen on, not one to go to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def read_api_key(settings: ServerSettings) -> str | None:
    """The key that clients must send, or None if none is asked for.

    Raises ConfigError if the file cannot be read or holds no usable key.
    """
    if not settings.api_key_file:
        return None
    path = Path(os.path.expanduser(settings.api_key_file))
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no path at all
        raise ConfigError(f"api_key_file {str(path)!r} cannot be read: {error}") from error
    if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"api_key_file {str(path)!r} must hold one word of {_SHORTEST_KEY} or more ASCII "
            "characters",
            hint=f"python3 -c 'import secrets; print(secrets.token_urlsafe())' > {path}",
        )
    return key


def _check_origin(origin: str) -> None:
    scheme, separator, rest = origin.partition("://")
    if scheme not in ("http", "https") or not separator or not rest or "/" in rest:
        raise ConfigError(
            f"allowed_origins: {origin!r} is not an origin",
            hint="write scheme and host, without a path: https://pages.example.org",
        )

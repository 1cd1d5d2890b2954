"""Where a backend may be: one reading of its URL, and a check of the address it resolves to.

A URL is a promise of its owner that somebody else keeps: the name's server. So a name is resolved
once for each connection, every address is checked, and the connection goes to an address that was
checked: a second resolution could give another one (DNS rebinding).
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from tokenworks.errors import BackendError, ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Kind = Literal["public", "private", "forbidden"]
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a name and a port, the best one first."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*)/?"
)
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")
_NUMBER: Final = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+))*")


def _networks(*names: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(name) for name in names)


# IANA's registries of special-purpose addresses, and where clouds keep their machines' credentials.
_PRIVATE: Final = _networks(
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *("::1/128", "fc00::/7"),
)
_FORBIDDEN: Final = _networks(
    *("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("100.100.100.200/32", "168.63.129.16/32"),
    *(
        "::/96",
        "::ffff:0:0:0/96",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
    ),
    *("64:ff9b:1::/48", "fe80::/10", "fec0::/10", "ff00::/8"),
    *("fd00:ec2::/32", "fd20:ce::/32", "fd00:c1::/32", "fd00:42::42/128"),
)
_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")
_TUNNELLED: Final = (0x00005EFE, 0x02005EFE)  # ISATAP: an IPv4 address follows in the last 32 bits


def kind_of(address: Address) -> Kind:
    """Whether an address is one of the internet, of this machine or its surroundings, or neither.

    An IPv4 address inside one of IPv6 counts as itself where the system or a translator would go
    there (`::ffff:a.b.c.d`, `64:ff9b::a.b.c.d`); forms that only tunnels know are forbidden.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return "forbidden"
        if address.ipv4_mapped is not None:
            return kind_of(address.ipv4_mapped)
        if address in _TRANSLATED:
            inner = kind_of(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
            return "public" if inner == "public" else "forbidden"
        if int(address) >> 32 & 0xFFFFFFFF in _TUNNELLED:
            return "forbidden"
    if address == ipaddress.IPv6Address("::1"):
        return "private"  # ::/96 around it is not
    if any(address in network for network in _FORBIDDEN):
        return "forbidden"
    return "private" if any(address in network for network in _PRIVATE) else "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A backend's URL, taken apart once. `host` is a name or an address, without brackets."""

    tls: bool
    host: str
    port: int
    path: str
    allow_private: bool

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def endpoint_of(url: str, *, allow_private: bool) -> Endpoint:
    """Take a URL apart. Raises ConfigError, which never shows what may be a password."""
    if "@" in url:
        raise ConfigError(
            "A backend's url holds a user name or a password",
            hint="give its key by api_key_file or api_key_variable",
        )
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigError(
            f"The url {url[:200]!r} of a backend cannot be read",
            hint="write https://NAME/PATH, in ASCII, without a query",
        )
    host, port = match["host"].strip("[]").lower(), match["port"]
    tls = match["scheme"] == "https"
    if not tls and not allow_private:
        raise ConfigError(
            f"The url {url!r} has no TLS: keys and prompts would travel readable",
            hint="write https://, or allow_private = true for a machine of your own network",
        )
    _check_host(host, url, allow_private)
    if port and not 0 < int(port) < 65536:
        raise ConfigError(f"The url {url!r} has no port between 1 and 65535")
    return Endpoint(
        tls=tls,
        host=host,
        port=int(port) if port else (443 if tls else 80),
        path=match["path"],
        allow_private=allow_private,
    )


def _check_host(host: str, url: str, allow_private: bool) -> None:
    """One spelling for each address: readers differ on the others, and a check may be fooled."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _NUMBER.fullmatch(host.rstrip(".")):
            raise ConfigError(
                f"The url {url!r} writes an address in an odd form",
                hint="write four decimal numbers, like 192.168.1.5",
            ) from None
        if not _NAME.fullmatch(host) or len(host) > 253:
            raise ConfigError(
                f"The url {url!r} has no valid host name",
                hint="write the name without a dot at its end",
            ) from None
        return
    kind = kind_of(address)
    if kind == "forbidden":
        raise ConfigError(f"The url {url!r} leads to an address where no backend may be")
    if kind == "private" and not allow_private:
        raise ConfigError(
            f"The url {url!r} leads to a machine of your own network",
            hint="if that is meant, set allow_private = true",
        )


def checked(endpoint: Endpoint, addresses: list[str]) -> list[str]:
    """These addresses, if a backend may be at every one of them. Raises BackendError."""
    if not addresses:
        raise BackendError(f"The name {endpoint.host!r} has no address")
    for text in addresses:
        try:
            kind = kind_of(ipaddress.ip_address(text))
        except ValueError:
            kind = "forbidden"
        if kind == "forbidden" or (kind == "private" and not endpoint.allow_private):
            raise BackendError(
                f"The name {endpoint.host!r} leads to {text}, where this backend may not be",
                hint="for a machine of your own network, set allow_private = true",
            )
        if kind == "public" and not endpoint.tls:
            raise BackendError(
                f"The name {endpoint.host!r} leads to {text}, which is not of your own network: "
                "without TLS nothing is sent there",
                hint="use an https:// url",
            )
    return addresses


async def system_resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))

"""Nothing makes the gateway ask an address that its owner has not allowed."""

import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hostile import ROUTES, asking, attacked, placed, speaking
from tokenworks.errors import ConfigError
from tokenworks.gateway.policies import PolicyFile
from tokenworks.gateway.upstream.address import endpoint_of, kind_of
from upstream_server import UpstreamServer, upstream_server

METADATA = "http://169.254.169.254/latest/meta-data/iam/"


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    with upstream_server() as server:
        yield server


@dataclass
class Trap:
    """Somebody inside, whom nobody has to ask."""

    url: str
    callers: int = 0


@contextmanager
def trap() -> Iterator[Trap]:
    listener = socket.create_server(("127.0.0.1", 0))
    trap = Trap(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def wait() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                trap.callers += 1
                connection.close()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield trap
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_ssrf_by_a_redirect_is_not_followed(
    tmp_path: Path, upstream: UpstreamServer, status: int
) -> None:
    with trap() as inside:
        to = METADATA if status == 303 else f"{inside.url}/v1/chat/completions"
        fields = f"location: {to}\r\nrefresh: 0; url={to}\r\ncontent-location: {to}\r\n"
        said = f"HTTP/1.1 {status} Go\r\n{fields}content-length: 0\r\n\r\n".encode()
        with (
            speaking(lambda: iter([said])) as bad,
            attacked(tmp_path, placed(upstream, url=bad.url)) as gateway,
        ):
            reply = gateway.post(ROUTES[0], asking(ROUTES[0]))
            assert reply.status in (502, 503)
            assert to not in reply.text
            assert "location" not in reply.headers
            assert bad.asked == 1
    assert inside.callers == 0


def test_ssrf_by_an_image_s_address_is_the_backend_s_to_fetch(
    tmp_path: Path, upstream: UpstreamServer
) -> None:
    """The gateway passes addresses on and asks none of them itself."""
    with trap() as inside, attacked(tmp_path, placed(upstream)) as gateway:
        for url in (
            inside.url.replace("http://", "https://"),
            METADATA.replace("http://", "https://"),
            "https://[::1]/x.png",
        ):
            part = {"type": "image_url", "image_url": {"url": url}}
            chat = {"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}
            assert gateway.post(ROUTES[0], asking(ROUTES[0], messages=[chat])).status == 200
            source = {"type": "image", "source": {"type": "url", "url": url}}
            asked = asking(ROUTES[3], messages=[{"role": "user", "content": [source]}])
            assert gateway.post(ROUTES[3], asked).status == 200
        for url in (inside.url, "file:///etc/passwd", "gopher://127.0.0.1/", METADATA):
            part = {"type": "image_url", "image_url": {"url": url}}
            wrong = asking(ROUTES[0], messages=[{"role": "user", "content": [part]}])
            assert gateway.post(ROUTES[0], wrong).status == 400
    assert inside.callers == 0


ODD = (
    "http://0x7f.1/v1",
    "http://2130706433/v1",
    "http://017700000001/v1",
    "http://127.1/v1",
    "http://127.0.0.1./v1",
    "http://localhost./v1",
    "http://[::ffff:169.254.169.254]/v1",
    "http://[::ffff:a9fe:a9fe]/v1",
    "http://[0:0:0:0:0:ffff:a9fe:a9fe]/v1",
    "http://[::169.254.169.254]/v1",
    "http://[::ffff:0:169.254.169.254]/v1",
    "http://[::ffff:0:a9fe:a9fe]/v1",
    "http://[64:ff9b::169.254.169.254]/v1",
    "http://[64:ff9b:1::a9fe:a9fe]/v1",
    "http://[2002:a9fe:a9fe::]/v1",
    "http://[2001:0:a9fe:a9fe::]/v1",
    "http://[fe80::1]/v1",
    "http://[fe80::1%25lo]/v1",
    "http://[fd00:ec2::254]/v1",
    "http://169.254.169.254/v1",
    "http://169.254.170.2/v1",
    "http://100.100.100.200/v1",
    "http://168.63.129.16/v1",
    "http://192.0.0.192/v1",
    "http://0/v1",
    "http://0.0.0.0/v1",
    "http://[::]/v1",
    "http://255.255.255.255/v1",
    "http://user@127.0.0.1/v1",
    "http://safe.example@169.254.169.254/v1",
    "http://safe.example:80@169.254.169.254/v1",
    "http://169.254.169.254#@safe.example/v1",
    "http://safe.example\\@169.254.169.254/v1",
    "http://169.254.169.254%2f@safe.example/v1",
    "http://①⑥⑨.254.169.254/v1",
    "http://169。254。169。254/v1",
    "http://169.254.169.254:80:443/v1",
    "http:169.254.169.254/v1",
    "http:////169.254.169.254/v1",
    "\thttp://169.254.169.254/v1",
    "file:///etc/passwd",
    "unix:///run/docker.sock",
)


@pytest.mark.parametrize("url", ODD)
def test_ssrf_by_an_odd_address_is_refused_whatever_is_allowed(
    tmp_path: Path, upstream: UpstreamServer, url: str
) -> None:
    """As a whole: a policy that has one such backend does not hold, and the old one does."""
    for allow_private in (True, False):
        with pytest.raises(ConfigError):
            endpoint_of(url, allow_private=allow_private)
    path = tmp_path / "policies.toml"
    path.write_text(placed(upstream, "good"))
    policies = PolicyFile(path)
    path.write_text(placed(upstream, "good") + placed(upstream, "bad", url=url))

    with pytest.raises(ConfigError):
        policies.news()
    assert [one.name for one in policies.current.backends] == ["good"]
    assert policies.problem


def test_every_form_of_an_address_inside_another_is_no_public_one() -> None:
    """Of each address that must not be reached, in all forms in which IPv6 can hold it."""
    for text in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "100.100.100.200", "0.0.0.0"):
        inner = int(ipaddress.IPv4Address(text))
        forms: dict[str, Any] = {
            "mapped": 0xFFFF << 32 | inner,
            "compatible": inner,
            "translated (RFC 2765)": 0xFFFF << 48 | inner,
            "NAT64": 0x64FF9B << 96 | inner,
            "local NAT64": 0x64FF9B0001 << 80 | inner,
            "6to4": 0x2002 << 112 | inner << 80,
            "Teredo's server": 0x20010000 << 96 | inner << 64,
            "Teredo's client": 0x20010000 << 96 | inner ^ 0xFFFFFFFF,
            "ISATAP": 0x20010DB8 << 96 | 0x5EFE << 32 | inner,
            "ISATAP, public": 0x2A000000 << 96 | 0x2005EFE << 32 | inner,
        }
        for name, number in forms.items():
            assert kind_of(ipaddress.IPv6Address(number)) != "public", (text, name)

"""Where a connection goes: names, addresses, certificates."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from scripted_sockets import OK, ask, client_of, run, saying, server
from tokenworks.errors import BackendError, ConfigError
from tokenworks.gateway.upstream.address import endpoint_of, system_resolve
from tokenworks.gateway.upstream.connection import WireError
from tokenworks.gateway.upstream.http import HttpClient, Request, tls_context


def test_a_line_end_in_a_header_is_refused_not_sent() -> None:
    async def main() -> None:
        async with server(saying()) as url, client_of(url) as client:
            for value in ("a\r\nx: y", "a\nb", "é", "", " a"):
                with pytest.raises(ConfigError, match="'x-y'"):
                    await ask(client, Request(method="GET", path="/", fields={"x-y": value}))

    run(main())


def test_nobody_there_is_said_in_words() -> None:
    async def main() -> None:
        async with server(saying()) as url:
            pass
        async with client_of(url) as client:
            with pytest.raises(WireError, match="connection refused"):
                await ask(client)

    run(main())


def test_dns_rebinding_a_name_is_resolved_once_and_only_checked_addresses_are_used() -> None:
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async def main() -> None:
        heads = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
            await reader.read()

        async with server(handler) as url:
            port = url.rpartition(":")[2]
            # No resolver of this system knows the name: whoever asked again would get nowhere.
            there = f"http://rebound.invalid:{port}"
            async with client_of(there, resolve=resolve) as client:
                assert await ask(client) == (200, b"ok")
        assert asked == ["rebound.invalid"]
        assert f"\r\nhost: rebound.invalid:{port}\r\n".encode() in heads[0]

    run(main())


def test_dns_rebinding_to_this_machine_gets_no_connection() -> None:
    async def main() -> None:
        answers = [["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], ["::ffff:127.0.0.1"]]

        async def resolve(host: str, port: int) -> list[str]:
            return answers.pop()

        cloud = endpoint_of("https://api.example.com", allow_private=False)
        client = HttpClient(cloud, resolve=resolve)
        for _ in range(3):
            with pytest.raises(BackendError, match="may not be"):
                await ask(client)
        assert client.connections == 0

    run(main())


def test_a_name_that_does_not_resolve_is_said_in_words() -> None:
    async def main() -> None:
        async with client_of("http://no-such-host.invalid", resolve=system_resolve) as client:
            with pytest.raises(WireError, match="cannot be resolved"):
                await ask(client)

    run(main())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own making for `right.test` and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "30", "-subj", "/CN=right.test", "-keyout", "key.pem"]
    command += ["-out", "cert.pem", "-addext", "subjectAltName=DNS:right.test,IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_tls_is_verified_by_authority_and_by_name(certificates: Path) -> None:
    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def main() -> None:
        handler = saying(OK, OK, OK)
        async with server(handler, ssl=server_context(certificates)) as url:
            port = url.rpartition(":")[2]
            trusted = tls_context(str(certificates / "cert.pem"))
            for there, context, works in (
                (url, trusted, True),
                (f"https://right.test:{port}", trusted, True),
                (f"https://wrong.test:{port}", trusted, False),
                (f"https://right.test:{port}", tls_context(), False),
            ):
                async with client_of(there, tls=context, resolve=here) as client:
                    if works:
                        assert await ask(client) == (200, b"ok")
                        continue
                    with pytest.raises(WireError, match="certificate is not trusted"):
                        await ask(client)

    run(main())


def test_an_address_that_leads_nowhere_leaves_time_for_the_next_one(certificates: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # the handshake begins, and nobody answers
        writer.close()
        left.set()

    left = asyncio.Event()

    async def main() -> None:
        tls = server_context(certificates)
        async with server(saying(OK), ssl=tls) as url:
            port = int(url.rpartition(":")[2])
            other = await asyncio.start_server(silent, "127.0.0.2", port)

            async def resolve(host: str, port: int) -> list[str]:
                return ["127.0.0.3", "127.0.0.2", "127.0.0.1"]

            trusted = tls_context(str(certificates / "cert.pem"))
            async with (
                other,
                client_of(url, tls=trusted, resolve=resolve, connect_s=1.0) as client,
            ):
                assert await ask(client) == (200, b"ok")
                await asyncio.wait_for(left.wait(), 5)

    run(main())


def test_a_plain_server_behind_an_https_url_is_said_in_words(tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with (
            server(plain) as url,
            client_of(url.replace("http:", "https:")) as client,
        ):
            with pytest.raises(WireError, match="no TLS could be agreed on"):
                await ask(client)

    run(main())
    with pytest.raises(ConfigError, match="holds no certificates"):
        tls_context(str(tmp_path / "none"))

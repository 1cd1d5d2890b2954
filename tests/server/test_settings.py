import stat
from pathlib import Path

import pytest

from tokenworks.errors import ConfigError
from tokenworks.server.settings import ServerSettings, is_loopback, read_api_key, url_of


def test_beyond_loopback_a_key_is_required(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.example.org"):
        with pytest.raises(ConfigError, match="no key is set") as refused:
            ServerSettings(host=host)

        assert "--api-key-file" in str(refused.value)
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")

    assert read_api_key(ServerSettings(host="0.0.0.0", api_key_file=str(key))) == "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "LocalHost", "::1", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert read_api_key(ServerSettings(host=host)) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7"),
        ("::1", "http://[::1]:7"),
        ("[::1]", "http://[::1]:7"),
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://[::1]:7"),
        ("box.example", "http://box.example:7"),
    ],
)
def test_an_address_to_listen_on_becomes_one_to_go_to(host: str, url: str) -> None:
    assert url_of(host, 7) == url


@pytest.mark.parametrize("text", ["", "short", "sixteen letters but spaces", "ключключключключ"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    key = tmp_path / "key"
    key.write_text(text)

    with pytest.raises(ConfigError, match="16 or more"):
        read_api_key(ServerSettings(api_key_file=str(key)))


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=str(path)):
            read_api_key(ServerSettings(api_key_file=str(path)))


@pytest.mark.parametrize(
    "bad",
    [
        {"port": -1},
        {"port": 65536},
        {"drain_seconds": -1.0},
        {"drain_seconds": float("nan")},
        {"max_body_bytes": 0},
        {"max_nesting": 0},
        {"allowed_origins": ("example.org",)},
        {"allowed_origins": ("https://example.org/page",)},
    ],
)
def test_values_out_of_range_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ServerSettings(**bad)  # type: ignore[arg-type]

"""What is known of a backend, and how its key stays secret."""

import copy
import pickle
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tokenworks.errors import ConfigError
from tokenworks.gateway.labels import Label
from tokenworks.gateway.upstream.settings import Key, Limits, UpstreamSettings

KEY = "sk-canary-0123456789"
TEXT = """
name = "cloud"
url = "https://api.example.com/v1"
models = { big = "vendor/big-1" }
tier = "cloud"
abilities = ["tools", "schema"]
api_key_variable = "CLOUD_KEY"
prices = { input = 2.5, output = 10, cached_input = "0.25" }
limits = { concurrent = 8, idle_s = 5.0 }
"""


def settings_of(**changes: Any) -> UpstreamSettings:
    given: dict[str, Any] = {
        "name": "there",
        "url": "https://api.example.com/v1",
        "models": {"ours": "theirs"},
        "tier": "cloud",
    }
    return UpstreamSettings(**(given | changes))


def test_settings_come_from_a_file_as_people_write_it() -> None:
    settings = msgspec.convert(tomllib.loads(TEXT), UpstreamSettings, strict=False)

    assert settings.prices is not None
    assert settings.prices.input == Decimal("2.5")
    assert settings.prices.cached_input == Decimal("0.25")
    assert (settings.limits.concurrent, settings.limits.idle_s) == (8, 5)
    assert settings.label() is Label.PUBLIC


def test_a_backend_sees_public_data_only_unless_somebody_says_more() -> None:
    for tier in ("device", "edge", "site", "cloud"):
        assert settings_of(tier=tier).label() is Label.PUBLIC
    assert settings_of(clearance="secret").label() is Label.SECRET


def test_private_addresses_are_for_backends_of_the_own_network() -> None:
    assert settings_of(tier="site", url="http://gpu-box:8000/v1").endpoint().allow_private
    assert not settings_of().endpoint().allow_private
    assert settings_of(allow_private=True).endpoint().allow_private
    with pytest.raises(ConfigError, match="no TLS"):
        settings_of(url="http://api.example.com/v1")
    with pytest.raises(ConfigError, match="own network"):
        settings_of(tier="site", allow_private=False, url="https://10.0.0.1/v1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"models": {}},
        {"models": {"ours": ""}},
        {"clearance": "top secret"},
        {"context_length": -1},
        {"energy_j_per_token": -1.0},
        {"energy_j_per_token": float("nan")},
        {"api_key_variable": "A", "api_key_file": "b"},
        {"url": "file:///etc/passwd"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        settings_of(**wrong)


@pytest.mark.parametrize("wrong", [{"concurrent": 0}, {"idle_s": 0.0}, {"total_s": 1e9}])
def test_limits_have_limits(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"limits\."):
        Limits(**wrong)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="api_key"):
        msgspec.convert({**tomllib.loads(TEXT), "api_key": KEY}, UpstreamSettings)


def test_the_key_is_read_from_where_it_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f" {KEY}\n")

    from_file = settings_of(api_key_file=str(tmp_path / "key")).read_key({})
    from_variable = settings_of(api_key_variable="K").read_key({"K": KEY})

    assert from_file.reveal() == from_variable.reveal() == KEY
    assert not settings_of().read_key({"K": KEY})


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", f"{KEY}\nmore".encode(), b"k" * 5000])
def test_a_file_that_holds_no_key_is_refused_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        settings_of(api_key_file=str(tmp_path / "key")).read_key({})
    assert "canary" not in str(refused.value)
    with pytest.raises(ConfigError, match="variable K"):
        settings_of(api_key_variable="K").read_key({"K": content.decode("latin-1")})
    with pytest.raises(ConfigError, match="cannot be read"):
        settings_of(api_key_file=str(tmp_path / "none")).read_key({})


def test_a_key_shows_itself_to_nobody_by_accident() -> None:
    key = Key(KEY)

    assert "canary" not in f"{key} {key!r} {[key]}" + repr(vars(type(key)))
    for steal in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode):
        with pytest.raises(TypeError):
            steal(key)
    assert "canary" not in repr(settings_of(api_key_variable="K"))

"""When traces are sent, and to whom: only if somebody has said so."""

import subprocess
import sys
from pathlib import Path

import pytest

from tokenworks.cli.traces import traces_of
from tokenworks.config import Config, load, otlp_endpoint
from tokenworks.errors import ConfigError
from tokenworks.telemetry.otlp import OtlpTraces

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def config_of(folder: Path, **environment: str) -> Config:
    return load(environment={"TOKENWORKS_HOME": str(folder), **environment}, folder=folder)


@pytest.mark.usefixtures("alone")
def test_nothing_is_sent_unless_a_collector_is_named(tmp_path: Path) -> None:
    with traces_of(config_of(tmp_path)) as traces:
        assert traces is None


@pytest.mark.usefixtures("alone")
def test_a_collector_is_named_by_the_settings_or_by_opentelemetry_s_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"TOKENWORKS_TELEMETRY_OTLP_ENDPOINT": NOWHERE}
    with traces_of(config_of(tmp_path, **named)) as traces:
        assert isinstance(traces, OtlpTraces)
        assert not traces.wants_content
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)
    content = {"TOKENWORKS_TELEMETRY_OTEL_CONTENT": "true"}
    with traces_of(config_of(tmp_path, **content)) as traces:
        assert isinstance(traces, OtlpTraces)
        assert traces.wants_content
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with traces_of(config_of(tmp_path)) as traces:
        assert traces is None


@pytest.mark.usefixtures("alone")
def test_an_address_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("collector:4318", "ftp://collector", "http://"):
        with pytest.raises(ConfigError, match="no address of a collector"):
            config_of(tmp_path, TOKENWORKS_TELEMETRY_OTLP_ENDPOINT=address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        with (
            pytest.raises(ConfigError, match="no address of a collector"),
            traces_of(config_of(tmp_path)),
        ):
            pass


@pytest.mark.usefixtures("alone")
def test_without_the_extra_a_setting_is_an_error_and_a_variable_of_others_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenworks.telemetry.otlp", None)
    named = {"TOKENWORKS_TELEMETRY_OTLP_ENDPOINT": NOWHERE}
    with (
        pytest.raises(ConfigError, match="not installed"),
        traces_of(config_of(tmp_path, **named)),
    ):
        pass
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)
    with traces_of(config_of(tmp_path)) as traces:
        assert traces is None


def test_the_library_is_not_imported_where_it_is_not_used() -> None:
    code = "import sys, tokenworks.cli.up; print('opentelemetry.sdk' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "False"
    assert otlp_endpoint({}) == ""

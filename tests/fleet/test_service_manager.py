import logging
import secrets
import socket
import sys
from pathlib import Path

import pytest

from tokenworks.fleet.service_manager import READY, notify


@pytest.mark.parametrize("abstract", [False, True])
def test_a_listening_manager_hears_the_state(tmp_path: Path, abstract: bool) -> None:
    if abstract and sys.platform != "linux":
        pytest.skip("abstract names are Linux's")
    name = secrets.token_hex(8) if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(10)
        notify(f"@{name}" if abstract else name, READY)

        assert manager.recv(100) == b"READY=1"


def test_nobody_is_told_where_nobody_asked(caplog: pytest.LogCaptureFixture) -> None:
    notify("", READY)

    assert caplog.records == []


@pytest.mark.parametrize("address", ["gone", "x" * 200])
def test_a_manager_that_cannot_be_told_is_a_warning(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        notify(str(tmp_path / address), READY)

    assert "cannot be told" in caplog.text

import io
import logging
from collections.abc import Iterator

import pytest

from tokenworks.telemetry import log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    logger = logging.getLogger("tokenworks")
    before = logger.handlers[:], logger.level, logger.propagate
    stream = io.StringIO()
    log.set_up("info", stream)
    yield stream
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_fact_is_one_line_with_its_request(stream: io.StringIO) -> None:
    token = log.request_id.set("r-1")
    logging.getLogger("tokenworks.some.part").warning("a\nb\x1b[2J\x9b")
    log.request_id.reset(token)
    logging.getLogger("tokenworks.some.part").debug("not shown")

    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith("warning some.part: a\\nb\\x1b[2J\\x9b request=r-1\n")


def test_secrets_are_never_written(stream: io.StringIO) -> None:
    logger = logging.getLogger("tokenworks")
    logger.info("Authorization: Bearer hunter2hunter2")
    logger.info("index https://user:hunter2hunter2@example.org/simple")
    logger.info("api_key=hunter2hunter2, next")

    text = stream.getvalue()
    assert "hunter2" not in text
    assert "https://***@example.org/simple" in text
    assert ", next" in text


def test_setting_up_again_replaces_the_first(stream: io.StringIO) -> None:
    second = io.StringIO()
    log.set_up("error", second)
    logging.getLogger("tokenworks").error("once")

    assert stream.getvalue() == ""
    assert second.getvalue().count("once") == 1

"""Who is told of requests: a collector of traces, where one is named."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tokenworks import __version__
from tokenworks.config import Config, otlp_endpoint
from tokenworks.errors import ConfigError
from tokenworks.telemetry.facts import Traces

logger = logging.getLogger(__name__)


@contextmanager
def traces_of(config: Config) -> Iterator[Traces | None]:
    """None, at no cost, unless a collector is named by the settings or OpenTelemetry's variables.

    Raises ConfigError if the settings name one and the extra that speaks to it is not installed.
    """
    settings = config.telemetry
    if not settings.otlp_endpoint:
        # Checked as the setting is: an address that is none must not end in silence.
        settings = msgspec.structs.replace(settings, otlp_endpoint=otlp_endpoint())
    if not settings.otlp_endpoint:
        yield None
        return
    try:
        from tokenworks.telemetry.otlp import OtlpTraces
    except ImportError:
        if config.telemetry.otlp_endpoint:
            raise ConfigError(
                "Traces need OpenTelemetry's library, which is not installed",
                hint="pip install 'tokenworks[otel]'",
            ) from None
        logger.info("no traces: OpenTelemetry's library is not installed (tokenworks[otel])")
        yield None
        return
    traces = OtlpTraces(settings.otlp_endpoint, version=__version__, content=settings.otel_content)
    try:
        yield traces
    finally:
        traces.close()

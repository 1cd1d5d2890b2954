"""Start-up settings of what is told to others."""

from urllib.parse import urlsplit

import msgspec

from tokenworks.errors import ConfigError


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is sent anywhere unless an address is given. Raises ConfigError for what is none."""

    otlp_endpoint: str = ""  # collector for OTLP over HTTP, e.g. http://127.0.0.1:4318; empty: none
    otel_content: bool = False  # what is said in traces too; never where it is private or secret

    def __post_init__(self) -> None:
        if not self.otlp_endpoint:
            return
        parts = urlsplit(self.otlp_endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigError(
                f"otlp_endpoint {self.otlp_endpoint[:100]!r} is no address of a collector",
                hint="it looks like http://127.0.0.1:4318; /v1/traces is added to it",
            )

"""Start-up settings of the gateway: where its policies and its books are."""

import msgspec


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Backends and policies are not here: they are in a file that is read again when it changes."""

    policies: str = ""  # file of policies and backends (TOML); empty: this machine's engine alone
    database: str = ""  # sqlite:///FILE or postgresql://…; empty: a file in the state folder

"""Tells the service manager that started us, if one did, how we are (protocol of sd_notify(3))."""

import logging
import socket

logger = logging.getLogger(__name__)

READY = b"READY=1"


def notify(address: str, state: bytes) -> None:
    """Send `state` to the datagram socket at `address`: a path, or a name after `@` (abstract).

    Nobody listens at an empty address. A manager that cannot be told is no reason to stop serving.
    """
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            speaker.sendall(state)
    except OSError as error:
        logger.warning("the service manager at %r cannot be told: %s", address, error)

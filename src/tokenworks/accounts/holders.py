"""Who holds a limit or a budget: a key, a user of a tenant, or a tenant."""

import re
from dataclasses import dataclass
from typing import Final

from tokenworks.errors import RequestError

_NAME: Final = re.compile(r"\w[\w .@+-]{0,62}")
_HOLDER: Final = re.compile(r"(key|user|tenant):(.+)")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Without a key (the installation's own user) `key_id` is empty, as `user` may be."""

    tenant: str
    user: str = ""
    key_id: str = ""

    @property
    def holders(self) -> tuple[str, ...]:
        """All whose limits and budgets this caller's requests count for."""
        found = [f"tenant:{self.tenant}"]
        if self.user:
            found.append(f"user:{self.tenant}/{self.user}")
        if self.key_id:
            found.append(f"key:{self.key_id}")
        return tuple(found)


def check_name(name: str, param: str) -> str:
    """A name of a tenant, user or key as it is kept. Raises RequestError naming `param`."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name[:64]!r} cannot be a name here",
            hint="a name has 1 to 63 letters, digits or _, and . @ + - or spaces between",
            param=param,
        )
    return name


def check_holder(holder: str, param: str = "holder") -> str:
    """`tenant:NAME`, `user:TENANT/NAME` or `key:ID`. Raises RequestError for anything else."""
    found = _HOLDER.fullmatch(holder)
    names = found[2].split("/") if found else []
    if found is None or len(names) != (2 if found[1] == "user" else 1):
        raise RequestError(
            f"{holder[:80]!r} names nobody who can hold a limit or a budget",
            hint="it looks like tenant:acme, user:acme/ada or key:ID",
            param=param,
        )
    return f"{found[1]}:{'/'.join(check_name(name, param) for name in names)}"


def show_holder(holder: str) -> str:
    """For messages: `tenant:acme` → `The tenant 'acme'`."""
    kind, _, name = holder.partition(":")
    return f"The {kind} {name.rpartition('/')[2]!r}"

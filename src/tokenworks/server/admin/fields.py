"""Kinds of values that the administration takes, described so that a program can make good ones.

Patterns are for the description; whoever keeps the value checks it.
"""

from datetime import date
from typing import Annotated, Final, Literal

from fastapi import Query
from pydantic import BeforeValidator, Field

_NAME: Final = r"\w[\w .@+-]{0,62}"

Name = Annotated[str, Field(max_length=64, json_schema_extra={"pattern": f"^{_NAME}$"})]
"""Of a tenant, a user or a key."""

NameOrNone = Annotated[str, Field(max_length=64, json_schema_extra={"pattern": f"^({_NAME})?$"})]

Holder = Annotated[
    str,
    Field(
        max_length=200,
        json_schema_extra={
            "pattern": f"^(tenant:{_NAME}|user:{_NAME}/{_NAME}|key:{_NAME})$",
            "examples": ["tenant:acme", "user:acme/ada", "key:ID"],
        },
    ),
]
"""Who holds a budget."""


def _whole(given: object) -> object:
    """JSON has one kind of number: 5.0 is a whole one."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


WHOLE: Final = BeforeValidator(_whole)
"""After the bounds of a field: those before it are in the description, too."""

Count = Annotated[int, Field(ge=0, le=2**53), WHOLE]

Money = Annotated[
    str,
    Field(
        max_length=40,
        json_schema_extra={"pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$", "examples": ["20.00"]},
    ),
]
"""US dollars."""

Role = Literal["user", "accountant", "service", "admin"]
Scope = Literal["infer", "usage", "admin"]
LabelWord = Literal["", "public", "internal", "private", "secret"]
"""Empty: what the policies say."""


def _day(given: object) -> object:
    """Only as 2026-11-28: a number of seconds is no day here."""
    if not isinstance(given, str) or len(given) != 10:
        raise ValueError("a day looks like 2026-11-28")
    return given


Day = Annotated[date, BeforeValidator(_day), Query(examples=["2026-11-28"])]
Month = Annotated[
    str, Query(pattern=r"^[12][0-9]{3}-(0[1-9]|1[0-2])$", examples=["2026-11"], max_length=7)
]
Tenant = Annotated[str, Query(pattern=r"^[^\x00]+$", max_length=64)]
Group = Literal["tenant", "user", "key", "model", "backend", "tier", "label", "status", "day"]

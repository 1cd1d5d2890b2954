"""Numbers that states give to people and companies, checked by python-stdnum.

It is imported when the first candidate is met: most texts hold none.
"""

import re
from functools import cache
from importlib import import_module
from typing import Any, Final

_WRITTEN: Final = {
    "br.cpf": r"\d{3}\.\d{3}\.\d{3}-\d{2}",
    "br.cnpj": r"\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}",
    "fr.nir": r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d",
    "ch.ssn": r"756\.\d{4}\.\d{4}\.\d\d",
    "be.nn": r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d",
    "cl.rut": r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]",
    "kr.rrn": r"\d{6}-[1-8]\d{6}",
    "se.personnummer": r"(?:\d\d)?\d{6}[-+]\d{4}",
    "fi.hetu": r"\d{6}[-+A]\d{3}[\dA-Y]",
    "cz.rc": r"\d{6}/\d{3,4}",
    "es.dni": r"\d{8}-?[A-Z]",
    "es.nie": r"[XYZ]-?\d{7}-?[A-Z]",
    "it.codicefiscale": r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]",
    "mx.curp": r"[A-Z]{4}\d{6}[HM][A-Z]{5}[\dA-Z]\d",
    "in_.pan": r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]",
}
"""How each is written. Where this and its check agree, no context is needed."""

_OF_LENGTH: Final = {
    9: ("nl.bsn", "ca.sin", "au.tfn"),
    10: ("gb.nhs", "dk.cpr", "se.personnummer", "bg.egn", "cz.rc"),
    11: ("pl.pesel", "de.idnr", "br.cpf", "no.fodselsnummer", "hr.oib", "tr.tckimlik", "be.nn"),
    12: ("in_.aadhaar", "se.personnummer"),
    13: ("ro.cnp", "za.idnr", "th.pin", "kr.rrn"),
    15: ("fr.nir",),
}
"""Those that any tenth number may pass for: only where the text speaks of such a number."""

_DIGITS_FIRST: Final = [name for name, shape in _WRITTEN.items() if shape[0] != "["] + ["fr.nir"]
_COMPANIES: Final = frozenset({"br.cnpj"})
_NINO: Final = re.compile(
    r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]( ?)\d\d\1\d\d\1\d\d\1[A-D]"
    r"(?![A-Za-z0-9])"
)
"""The United Kingdom's National Insurance number has no check digit; its letters say a lot."""


def _group(name: str) -> str:
    return name.replace(".", "__")


_OF_GROUP: Final = {_group(name): name for name in _WRITTEN}


def _one_of(names: list[str]) -> re.Pattern[str]:
    alternatives = (f"(?P<{_group(name)}>{_WRITTEN[name]})" for name in names)
    return re.compile(f"(?:{'|'.join(alternatives)})(?![A-Za-z0-9])")


_NUMBER: Final = _one_of(_DIGITS_FIRST)
_WORD: Final = _one_of([name for name in _WRITTEN if name not in _DIGITS_FIRST])


def written(text: str, at: int) -> tuple[str, int] | None:
    """The kind and the end of a number that is written, from `at` on, as its state writes it."""
    is_number = text[at].isdigit()
    match = (_NUMBER if is_number else _WORD).match(text, at)
    if match is None:
        return None if is_number else _nino(text, at)
    name = _OF_GROUP[str(match.lastgroup)]
    if not passes(name, match[0]):
        return None
    return "company_id" if name in _COMPANIES else "national_id", match.end()


def any_country(digits: str) -> bool:
    """Whether digits alone are a number that some state gives."""
    return any(passes(name, digits) for name in _OF_LENGTH.get(len(digits), ()))


def passes(name: str, number: str) -> bool:
    return bool(_module(name).is_valid(number))


@cache
def _module(name: str) -> Any:
    return import_module(f"stdnum.{name}")


def _nino(text: str, at: int) -> tuple[str, int] | None:
    match = _NINO.match(text, at)
    return ("national_id", match.end()) if match else None

"""Which label a finding calls for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tokenworks.gateway.labels import Label
from tokenworks.gateway.privacy.detectors import find
from tokenworks.gateway.privacy.entities import COMPANY, CREDENTIALS, PERSONAL, PLAIN

LABEL_OF_KIND: Final[Mapping[str, Label]] = MappingProxyType(
    {
        **dict.fromkeys(CREDENTIALS, Label.SECRET),
        **dict.fromkeys(PERSONAL, Label.PRIVATE),
        **dict.fromkeys(COMPANY, Label.INTERNAL),
        **dict.fromkeys(PLAIN, Label.PUBLIC),
    }
)
_NO_CHANGES: Final[Mapping[str, Label]] = MappingProxyType({})


def label_of_kind(kind: str, overrides: Mapping[str, Label] = _NO_CHANGES) -> Label:
    """The label of a kind, `overrides` first. Raises KeyError for a kind that there is not."""
    return overrides[kind] if kind in overrides else LABEL_OF_KIND[kind]


def label_of_text(text: str, overrides: Mapping[str, Label] = _NO_CHANGES) -> Label:
    """The highest label that anything found in the text calls for; PUBLIC if nothing is."""
    kinds = {one.kind for one in find(text)}
    return max((label_of_kind(kind, overrides) for kind in kinds), default=Label.PUBLIC)

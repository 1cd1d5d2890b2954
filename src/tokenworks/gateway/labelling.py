"""Which label a request's data has, and which it would have once what may be masked is masked."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from tokenworks.errors import LabelError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.labels import Label
from tokenworks.gateway.policies import LabelPolicy
from tokenworks.gateway.privacy.detectors import find
from tokenworks.gateway.privacy.labels import label_of_kind
from tokenworks.gateway.privacy.masking import Vault
from tokenworks.gateway.request_text import changed, is_readable, texts_of

MOST_REMEMBERED: Final = 2000
"""Texts whose findings are remembered: of a conversation, each turn sends all before it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """`masked` is the label once the kinds in `maskable` are masked, `base` the one without what
    detectors found: base <= masked <= label."""

    label: Label
    masked: Label
    base: Label
    kinds: tuple[str, ...] = ()
    maskable: tuple[str, ...] = ()


class Labeller:
    """Looks through every text of a request. What it remembers of texts is kinds, by their hash."""

    def __init__(self, remembered: int = MOST_REMEMBERED) -> None:
        self._kinds: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._most = remembered

    def label(
        self,
        request: Completion,
        least: Label | None,
        given: Iterable[Label],
        policy: LabelPolicy,
    ) -> Labelled:
        """`least` is the label of the caller's key; without one, the policy's default holds.
        `given` are those of the header and of the conversation before: they only raise it."""
        base = max([policy.floor if least is None else least, *given])
        if not is_readable(request):
            base = max(base, policy.unread)
        if not policy.detect:
            return Labelled(label=base, masked=base, base=base)
        kinds = tuple(sorted({kind for text in texts_of(request) for kind in self._of(text)}))
        labels = {kind: label_of_kind(kind, policy.of_kinds()) for kind in kinds}
        return Labelled(
            label=max(base, *labels.values()) if labels else base,
            masked=max([base, *(labels[kind] for kind in kinds if kind not in policy.mask)]),
            base=base,
            kinds=kinds,
            maskable=tuple(kind for kind in kinds if kind in policy.mask),
        )

    def _of(self, text: str) -> tuple[str, ...]:
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._kinds.get(key)
        if known is not None:
            self._kinds.move_to_end(key)
            return known
        found = tuple(sorted({one.kind for one in find(text)}))
        self._kinds[key] = found
        if len(self._kinds) > self._most:
            self._kinds.popitem(last=False)
        return found


def warm_up() -> None:
    """Import what detectors import when they first need it, so that no request waits for it."""
    find("+44 20 7946 0958, NHS 943 476 5919")


def masked(request: Completion, vault: Vault) -> Completion:
    """The request with what may be masked replaced by placeholders.

    Raises LabelError if any of it can be found after that: nothing is sent then.
    """
    # Twice: what only a later message gives away as secret is then masked in the earlier ones too.
    new = changed(changed(request, vault.mask), vault.mask)
    left = {kind for text in texts_of(new) for kind in vault.residue(text)}
    if left:
        raise LabelError(
            f"The request holds {', '.join(sorted(left))} where it cannot be masked",
            hint="leave it out, or use a backend that may see it",
        )
    return new

"""Which label a request's data has, and which it would have once what may be masked is masked."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Final

from tokenworks.errors import LabelError
from tokenworks.gateway.aside import Aside
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.labels import Label
from tokenworks.gateway.policies import LabelPolicy
from tokenworks.gateway.privacy.detectors import findings
from tokenworks.gateway.privacy.labels import label_of_kind
from tokenworks.gateway.privacy.masking import Vault
from tokenworks.gateway.request_text import changed, is_readable, texts_of

MOST_REMEMBERED: Final = 2000
"""Texts whose findings are remembered: of a conversation, each turn sends all before it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """`masked` is the label once the kinds in `maskable` are masked, `base` the one without what
    detectors found: base <= masked <= label. Nothing is maskable unless something was found."""

    label: Label
    masked: Label
    base: Label
    kinds: tuple[str, ...] = ()
    maskable: tuple[str, ...] = ()


class Labeller:
    """Looks through every text of a request, beside the event loop where there is much of it.

    What it remembers of texts is kinds, by their hash.
    """

    def __init__(self, remembered: int = MOST_REMEMBERED) -> None:
        self._kinds: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._most = remembered
        self._aside = Aside()

    async def label(
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
        kinds = await self._kinds_of(texts_of(request))
        labels = {kind: label_of_kind(kind, policy.of_kinds()) for kind in kinds}
        return Labelled(
            label=max(base, *labels.values()) if labels else base,
            masked=max([base, *(labels[kind] for kind in kinds if kind not in policy.mask)]),
            base=base,
            kinds=kinds,
            maskable=tuple(policy.mask) if any(kind in policy.mask for kind in kinds) else (),
        )

    async def label_of(self, texts: Iterable[str], policy: LabelPolicy) -> Label:
        """The highest that what is found in these calls for; public where nothing is."""
        if not policy.detect:
            return Label.PUBLIC
        kinds = await self._kinds_of(texts)
        given = policy.of_kinds()
        return max((label_of_kind(kind, given) for kind in kinds), default=Label.PUBLIC)

    async def masked(self, request: Completion, vault: Vault) -> Completion:
        """As `masked` does it, without looking again through what was looked through before."""
        size = 0
        for text in texts_of(request):
            size += len(text)
            kinds = self._kinds.get(_key(text))
            if kinds is not None:
                vault.knows(text, kinds)
        return await self._aside.run(size, partial(masked, request, vault))

    async def _kinds_of(self, texts: Iterable[str]) -> tuple[str, ...]:
        found: set[str] = set()
        new: dict[bytes, str] = {}
        for text in texts:
            key = _key(text)
            kinds = self._kinds.get(key)
            if kinds is None:
                new[key] = text
            else:
                self._remember(key, kinds)
                found.update(kinds)
        if new:
            size = sum(map(len, new.values()))
            for key, kinds in (await self._aside.run(size, partial(_looked_through, new))).items():
                self._remember(key, kinds)
                found.update(kinds)
        return tuple(sorted(found))

    def _remember(self, key: bytes, kinds: tuple[str, ...]) -> None:
        """As the newest; the oldest is forgotten."""
        self._kinds[key] = kinds
        self._kinds.move_to_end(key)
        if len(self._kinds) > self._most:
            self._kinds.popitem(last=False)


def _looked_through(texts: Mapping[bytes, str]) -> dict[bytes, tuple[str, ...]]:
    return {key: _kinds_in(text) for key, text in texts.items()}


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _kinds_in(text: str) -> tuple[str, ...]:
    return tuple(sorted({one.kind for one in findings(text)}))


def warm_up() -> None:
    """Import what detectors import when they first need it, so that no request waits for it."""
    _kinds_in("+44 20 7946 0958, NHS 943 476 5919")


def masked(request: Completion, vault: Vault) -> Completion:
    """The request with what may be masked replaced by placeholders.

    Raises LabelError if any of it can be found after that: nothing is sent then.
    """
    texts: list[str] = []

    def told(text: str) -> str:
        texts.append(text)
        return text

    changed(request, told)
    hidden = iter(vault.mask_all(texts))
    new = changed(request, lambda _: next(hidden))
    left = {kind for text in texts_of(new) for kind in vault.residue(text)}
    if left:
        raise LabelError(
            f"The request holds {', '.join(sorted(left))} where it cannot be masked",
            hint="leave it out, or use a backend that may see it",
        )
    return new

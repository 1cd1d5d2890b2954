"""Masking that can be undone: originals out, placeholders in, and back again."""

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import islice
from json import dumps as json_text
from typing import Final

from tokenworks.gateway.privacy.detectors import find
from tokenworks.gateway.privacy.entities import CREDENTIALS, PERSONAL, Found
from tokenworks.gateway.privacy.placeholders import (
    PLACEHOLDER,
    VARIANT,
    placeholder,
    plain,
    unfinished,
)

MASKED_KINDS: Final = (*PERSONAL, *CREDENTIALS)
ROUNDS: Final = 16
"""What is masked may change what the text around it says, so it is looked through again."""

MOST_KNOWN: Final = 2000
"""So many originals, the first ones, are looked for by themselves; others where they are found."""

LONG_ENOUGH: Final = 8
"""An original of so many characters is masked wherever it stands, also within a longer word."""

SHORTEST_CUT: Final = 3
"""Characters of an original that say something of it."""

Span = tuple[int, int, str]


class Vault:
    """Originals and their placeholders, of one conversation. It shows neither to anybody.

    An original has the same placeholder wherever it stands, and messages masked in the same order
    by a new vault have the same placeholders. What looks like a placeholder and is the user's own
    stays as it is: no such one is ever given out. Only one that was given out before is restored.
    """

    def __init__(self, kinds: Iterable[str] = MASKED_KINDS) -> None:
        self._kinds = frozenset(kinds)
        self._placeholders: dict[str, str] = {}  # by original
        self._originals: dict[str, str] = {}  # by placeholder
        self._sorted: list[str] = []
        self._numbers: dict[str, int] = {}
        self._own: set[str] = set()  # the user's own texts that look like placeholders
        self._reserved: set[str] = set()
        self._clean: set[str] = set()  # texts in which nothing of these kinds is found

    def __repr__(self) -> str:
        return f"Vault({len(self)} masked)"

    def __len__(self) -> int:
        return len(self._originals)

    def __reduce__(self) -> str:
        raise TypeError("a vault is not to be written anywhere")

    def mask(self, text: str) -> str:
        """The text with what is found of the vault's kinds, and all known originals, replaced.

        Masking masked text changes nothing. `residue` says whether anything is left.
        """
        self._keep_apart(text)
        return self._masked(text)

    def mask_all(self, texts: Iterable[str]) -> list[str]:
        """Each of them masked, in their order. What a later one gives away is masked in those
        before it too, and gets its placeholder after theirs: whatever follows some texts, their
        originals have the same placeholders.
        """
        masked: list[str] = []
        for text in texts:
            known, others = len(self), len(masked)
            masked.append(self.mask(text))
            while known < len(self):
                new = list(islice(self._placeholders, known, MOST_KNOWN))
                known = len(self)
                for at, before in enumerate(masked[:others]):
                    if any(original in before for original in new):
                        masked[at] = self._masked(before)
                others = len(masked)  # what those before have given away may be in any of them
        return masked

    def knows(self, text: str, kinds: Iterable[str]) -> None:
        """These kinds are all that is found in a text: it may be needless to look through it."""
        if self._kinds.isdisjoint(kinds):
            self._clean.add(text)

    def _masked(self, text: str) -> str:
        known = 0  # originals that have been looked for
        short: list[str] = []  # of these, those that may stand alone once neighbours are masked
        for _ in range(ROUNDS):
            new = list(islice(self._placeholders, known, MOST_KNOWN))
            known += len(new)
            spans = self._spans(text, [*short, *new])
            short += [original for original in new if len(original) < LONG_ENOUGH]
            if spans:
                text = self._replaced(text, spans)
            elif known == min(len(self), MOST_KNOWN):
                self._clean.add(text)
                break
        return text

    def residue(self, text: str) -> tuple[str, ...]:
        """The kinds that are left in a masked text. If there are any, it must not be sent."""
        return tuple(sorted({one.kind for one in self._found(text)}))

    def ends_within_one(self, text: str) -> bool:
        """Whether a text that was cut off ends with the beginning of an original: no detector can
        know that one."""
        return any(
            text.endswith(original[:length])
            for original in self._placeholders
            for length in range(SHORTEST_CUT, len(original))
        )

    def unmask(self, text: str, *, json: bool = False, start: int = 0) -> str:
        """The text from `start` on with its originals. `json`: it is JSON, and stays JSON."""
        pieces, at = [], start
        for match in VARIANT.finditer(text, start) if self._originals else ():
            original = None if match[0] in self._own else self._originals.get(plain(match))
            if original is not None:
                pieces += [text[at : match.start()], _in_json(original) if json else original]
                at = match.end()
        return "".join((*pieces, text[at:]))

    def begins_one(self, begun: str) -> bool:
        """Whether a placeholder that was given out begins so."""
        at = bisect_left(self._sorted, begun)
        return at < len(self._sorted) and self._sorted[at].startswith(begun)

    def _keep_apart(self, text: str) -> None:
        if "<" not in text and "&" not in text and "\\" not in text:
            return
        for match in VARIANT.finditer(text):
            if match[0] not in self._originals:
                self._own.add(match[0])
                self._reserved.add(plain(match))

    def _found(self, text: str) -> list[Found]:
        if text in self._clean:
            return []
        return [one for one in find(text) if one.kind in self._kinds]

    def _spans(self, text: str, originals: Iterable[str]) -> list[Span]:
        """What to replace: in order, none overlapping another."""
        spans = [(one.start, one.end, one.kind) for one in self._found(text)]
        spans += self._known(text, originals)
        merged: list[Span] = []
        for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
            if merged and start < merged[-1][1]:
                first, last, longer = merged[-1]
                merged[-1] = (first, max(last, end), longer)
            else:
                merged.append((start, end, kind))
        return merged

    def _known(self, text: str, originals: Iterable[str]) -> Iterator[Span]:
        """Where known originals stand, also those that no detector would find there."""
        ours = [match.span() for match in PLACEHOLDER.finditer(text)] if "<" in text else []
        for original in originals:
            given = self._placeholders[original]
            at = text.find(original)
            while at >= 0:
                end = at + len(original)
                before = bisect_left(ours, (end, 0))
                apart = not before or ours[before - 1][1] <= at
                if apart and (len(original) >= LONG_ENOUGH or _stands_alone(text, at, end)):
                    yield at, end, given[1:].rpartition("_")[0].lower()
                at = text.find(original, end)

    def _replaced(self, text: str, spans: list[Span]) -> str:
        pieces, at = [], 0
        for start, end, kind in spans:
            pieces += [text[at:start], self._placeholder(kind, text[start:end])]
            at = end
        return "".join((*pieces, text[at:]))

    def _placeholder(self, kind: str, original: str) -> str:
        known = self._placeholders.get(original)
        if known is not None:
            return known
        number = self._numbers.get(kind, 0) + 1
        while placeholder(kind, number) in self._reserved:
            number += 1
        self._numbers[kind] = number
        given = placeholder(kind, number)
        self._placeholders[original], self._originals[given] = given, original
        insort(self._sorted, given)
        return given


class Unmasker:
    """Of one stream. Only what may be the beginning of a placeholder is held back, and no more than
    the longest one has characters. `json`: the stream is JSON, such as a tool call's arguments.
    """

    def __init__(self, vault: Vault, *, json: bool = False) -> None:
        self._vault = vault
        self._json = json
        self._held = ""
        self._last = ""  # the character before what is held

    def __repr__(self) -> str:
        return f"Unmasker({self._vault!r}, {len(self._held)} characters held back)"

    def feed(self, piece: str) -> str:
        """What is certain now, with originals in place of placeholders."""
        text = self._held + piece
        end = next(
            (at for at, begun in unfinished(text) if self._vault.begins_one(begun)), len(text)
        )
        self._held = text[end:]
        return self._restored(text[:end])

    def flush(self) -> str:
        """What was held back, at the stream's end."""
        text, self._held = self._held, ""
        return self._restored(text)

    def _restored(self, text: str) -> str:
        if not text:
            return ""
        context, self._last = self._last, text[-1]
        return self._vault.unmask(context + text, json=self._json, start=len(context))


def _in_json(text: str) -> str:
    """As it stands between the quotes of a JSON string."""
    return json_text(text, ensure_ascii=False)[1:-1]


_LETTER: Final = re.compile(r"[A-Za-z0-9]")


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit goes on from either end."""
    before = start > 0 and _LETTER.match(text, start - 1) and _LETTER.match(text, start)
    after = end < len(text) and _LETTER.match(text, end) and _LETTER.match(text, end - 1)
    return not before and not after

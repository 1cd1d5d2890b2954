"""Personal data: how much we find of what is there, how fast, and the same for Presidio.

    python gateway_privacy.py [--data FOLDER] [--rounds N] [--install-peers] [--trial]

The texts are Presidio's own synthetic ones; compared are the types in them that need no language
model. Our patterns were made looking at texts of templates with even numbers only, and Presidio's
thresholds are those that are best for it on the same texts; ratios are of the others.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import presidio_peer
from chinese_texts import MAKERS, chinese_texts
from harness import DATA, Trial, environment, in_turn, note
from presidio_peer import Presidio, Row
from span_scores import Counts, Span, scores, together

from tokenworks.gateway.privacy.detectors import find

FOLDER = DATA / "gateway"
FILE = "presidio_synth_dataset_v2.json"
OURS = {
    "card": "CREDIT_CARD",
    "phone": "PHONE_NUMBER",
    "email": "EMAIL_ADDRESS",
    "iban": "IBAN_CODE",
    "us_ssn": "US_SSN",
    "ip_address": "IP_ADDRESS",
    "url": "DOMAIN_NAME",
    "date": "DATE_TIME",
    "driver_license": "US_DRIVER_LICENSE",
}
THEIRS = {name: name for name in OURS.values()} | {"URL": "DOMAIN_NAME"}
THRESHOLDS = (0.0, 0.2, 0.3, 0.45, 0.55, 0.7)
PASSES = 20
"""Of ours in one measurement, so that it lasts about as long as Presidio's."""

CHINESE_TEXTS = 2000
CHINESE_SEED = 6


@dataclass(frozen=True, slots=True)
class Sample:
    text: str
    template: int
    spans: list[Span]


def privacy_figures(folder: Path | None = None, rounds: int = 7) -> dict[str, object]:
    """`pii_f1_ratio_vs_presidio`, `pii_speed_ratio_vs_presidio`, and what they are made of.

    `folder` has the file of texts under its publisher's name. Raises FileNotFoundError.
    """
    samples = read_samples((folder or FOLDER) / FILE)
    texts = [sample.text for sample in samples]
    with Presidio() as peer:
        _, rows = peer.find(texts)
        quality = compared(samples, rows)
        speed = timed(peer, texts, rounds)
    keys = {
        "pii_f1_ratio_vs_presidio": quality["odd"]["f1_ratio"],
        "pii_speed_ratio_vs_presidio": speed["ratio"]["median"],
    }
    return {**keys, "quality": quality, "speed": speed, "chinese": chinese_scores()}


def read_samples(path: Path) -> list[Sample]:
    known = set(OURS.values())
    return [
        Sample(
            row["full_text"],
            row["template_id"],
            [
                (span["entity_type"], span["start_position"], span["end_position"])
                for span in row["spans"]
                if span["entity_type"] in known
            ],
        )
        for row in json.loads(path.read_text())
    ]


def ours_in(text: str) -> list[Span]:
    return [(OURS[one.kind], one.start, one.end) for one in find(text) if one.kind in OURS]


def compared(samples: Sequence[Sample], rows: Sequence[Sequence[Row]]) -> dict[str, dict]:
    """Of texts with even templates, odd ones and all: both sides by type, and pooled."""
    kinds = list(OURS.values())
    ours = [ours_in(sample.text) for sample in samples]
    even = [sample.template % 2 == 0 for sample in samples]
    thresholds = best_thresholds(samples, rows, even)
    theirs = [theirs_in(row, thresholds) for row in rows]
    record: dict[str, dict] = {"thresholds": thresholds}
    for name, keep in (
        ("even", even),
        ("odd", [not each for each in even]),
        ("all", [True] * len(even)),
    ):
        there = [sample.spans for sample, kept in zip(samples, keep, strict=True) if kept]
        a = scores(there, [x for x, kept in zip(ours, keep, strict=True) if kept], kinds)
        b = scores(there, [x for x, kept in zip(theirs, keep, strict=True) if kept], kinds)
        record[name] = {
            "texts": len(there),
            "f1_ratio": together(a).f1 / together(b).f1,
            "ours": by_kind(a),
            "presidio": by_kind(b),
        }
    return record


def theirs_in(row: Sequence[Row], thresholds: dict[str, float]) -> list[Span]:
    """Without the host of an e-mail address, which it gives as a URL besides."""
    mail = [(start, end) for name, start, end, _ in row if name == "EMAIL_ADDRESS"]
    return [
        (THEIRS[name], start, end)
        for name, start, end, score in row
        if name in THEIRS
        and score >= thresholds[THEIRS[name]]
        and not (name == "URL" and any(a <= start and end <= b for a, b in mail))
    ]


def best_thresholds(
    samples: Sequence[Sample], rows: Sequence[Sequence[Row]], keep: Sequence[bool]
) -> dict[str, float]:
    there = [sample.spans for sample, kept in zip(samples, keep, strict=True) if kept]
    some = [row for row, kept in zip(rows, keep, strict=True) if kept]
    kinds = list(OURS.values())
    tried = {
        threshold: scores(
            there, [theirs_in(x, dict.fromkeys(kinds, threshold)) for x in some], kinds
        )
        for threshold in THRESHOLDS
    }
    return {kind: max(THRESHOLDS, key=lambda at: tried[at][kind].f1) for kind in kinds}


def by_kind(counts: dict[str, Counts]) -> dict[str, dict[str, float]]:
    return {
        **{kind: each.record() for kind, each in counts.items()},
        "together": together(counts).record(),
    }


def timed(peer: Presidio, texts: list[str], rounds: int) -> dict[str, dict]:
    """Milliseconds a text, one thread each, in turn; `ratio` is how many times faster we are.

    Presidio looks for all it knows, or for the types compared, whichever is faster; we for all.
    """
    wanted = sorted(THEIRS.keys() - {"DOMAIN_NAME"})
    ways = {"all": None, "those compared": wanted}
    warm = {name: peer.find(texts, entities)[0] for name, entities in ways.items()}
    fastest = min(warm, key=lambda name: warm[name])

    def ours() -> float:
        begun = time.perf_counter()
        for text in texts * PASSES:
            find(text)
        return (time.perf_counter() - begun) * 1e3 / len(texts) / PASSES

    def theirs() -> float:
        return peer.find(texts, ways[fastest])[0] / len(texts)

    ours()
    pairs = in_turn(rounds, theirs, ours)
    said = pairs.record()
    return {
        "presidio_ms": said["ours"],
        "ours_ms": said["theirs"],
        "ratio": said["ratio"],
        "presidio_looks_for": fastest,
        "long_text_ms": long_text_ms(texts),
    }


def long_text_ms(texts: Sequence[str]) -> float:
    """What 100 kB of such texts take us at once."""
    text = "\n".join(texts)[:100_000]
    begun = time.perf_counter()
    find(text)
    return (time.perf_counter() - begun) * 1e3


def chinese_scores() -> dict[str, dict[str, float]]:
    """Ours on generated Chinese texts, where spans must be exact; Presidio has nothing there.

    The detectors were made with texts of the same generator, from another seed, at hand: it shows
    that they do what they are for, not how they do on texts of other people.
    """
    made = chinese_texts(CHINESE_TEXTS, CHINESE_SEED)
    kinds = list(MAKERS)
    found = [
        [(one.kind, one.start, one.end) for one in find(text) if one.kind in kinds]
        for text, _ in made
    ]
    return by_kind(scores([spans for _, spans in made], found, kinds, enough=1.0))


def show(figures: dict) -> None:
    for name in ("even", "odd", "all"):
        part = figures["quality"][name]
        print(f"\ntemplates: {name}, {part['texts']} texts; F1 ratio {part['f1_ratio']:.3f}")
        print(f"  {'':<18}{'ours':>8}{'Presidio':>10}   right/wrong/missed")
        for kind, mine in part["ours"].items():
            other = part["presidio"][kind]
            counts = [
                "/".join(str(x[n]) for n in ("right", "wrong", "missed")) for x in (mine, other)
            ]
            print(f"  {kind:<18}{mine['f1']:>8.3f}{other['f1']:>10.3f}   {'  '.join(counts)}")
    print("\nChinese, generated; exact spans: precision, recall")
    for kind, each in figures["chinese"].items():
        print(f"  {kind:<18}{each['precision']:>8.3f}{each['recall']:>8.3f}")
    speed = figures["speed"]
    print("\nmilliseconds a text, median (least to most):")
    for name in ("ours_ms", "presidio_ms", "ratio"):
        each = speed[name]
        print(f"  {name:<12}{each['median']:.4f} ({each['min']:.4f} to {each['max']:.4f})")
    print(f"  100 kB at once: {speed['long_text_ms']:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install-peers", action="store_true", help="install the peer and stop")
    parser.add_argument("--data", type=Path, default=FOLDER, help=f"folder with {FILE}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trial", action="store_true", help="on a machine that is not idle")
    options = parser.parse_args()
    if options.install_peers:
        presidio_peer.install()
        return
    if not presidio_peer.installed():
        sys.exit("error: Presidio is not installed\n\nhint: add --install-peers once")
    Trial.running = options.trial
    note(f"Presidio {presidio_peer.VERSION}, blank pipeline; {environment()['cpu']}")
    figures = privacy_figures(options.data, options.rounds)
    show(figures)
    print(json.dumps({key: value for key, value in figures.items() if key.startswith("pii_")}))


if __name__ == "__main__":
    main()

"""Runs in the peer's own environment: finds personal data with Presidio.

Reads one JSON object a line, `texts` and `entities` (null: all it knows); answers each with one
line: the milliseconds that the texts took, and for each text the findings as [type, start, end,
score]. Its recognisers of patterns run on a blank spaCy pipeline, which splits words and knows
nothing else: what is compared needs no model.
"""

import json
import logging
import sys
import time

import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine

logging.disable(logging.WARNING)


class BlankEngine(SpacyNlpEngine):  # type: ignore[misc]
    """spaCy without a trained pipeline."""

    def load(self) -> None:
        self.nlp = {"en": spacy.blank("en")}


def main() -> None:
    engine = BlankEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.load()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    for line in sys.stdin:
        asked = json.loads(line)
        begun = time.perf_counter()
        found = [
            analyzer.analyze(text, language="en", entities=asked["entities"])
            for text in asked["texts"]
        ]
        took_ms = (time.perf_counter() - begun) * 1e3
        rows = [[[x.entity_type, x.start, x.end, x.score] for x in results] for results in found]
        print("answer " + json.dumps([took_ms, rows]), flush=True)


if __name__ == "__main__":
    main()

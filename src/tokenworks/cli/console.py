"""Where the command line writes: data to stdout, everything said to the person to stderr."""

import sys

from rich.console import Console
from rich.text import Text

from tokenworks.errors import TokenworksError

data = Console(highlight=False, soft_wrap=True)
aside = Console(stderr=True, highlight=False, soft_wrap=True)


def show_error(error: TokenworksError) -> None:
    aside.print(Text.assemble(("error", "bold red"), f": {error.message}"))
    if error.hint:
        aside.print(Text.assemble(("hint", "bold cyan"), f": {error.hint}"))


def printable(text: str) -> str:
    """What a model wrote, made harmless for a terminal: escape codes could move or retitle it."""
    if not sys.stdout.isatty():
        return text
    return "".join(
        c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )

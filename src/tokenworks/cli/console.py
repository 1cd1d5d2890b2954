"""Where the command line writes: data to stdout, everything said to the person to stderr."""

import unicodedata

from rich.console import Console
from rich.text import Text

from tokenworks.errors import TokenworksError

# Names of files and models are shown as they are: nothing in them is markup.
data = Console(highlight=False, soft_wrap=True, markup=False)
aside = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def show_error(error: TokenworksError) -> None:
    aside.print(Text.assemble(("error", "bold red"), f": {printable(error.message)}"))
    if error.hint:
        aside.print(Text.assemble(("hint", "bold cyan"), f": {printable(error.hint)}"))


def printable(text: str) -> str:
    """A stranger's text, made harmless for a terminal: escape codes could move or retitle it."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) != "Cc" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )

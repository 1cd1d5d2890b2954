"""Options of the command line that several commands have, or that take more than a line to say."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file [default: ./tokenworks.toml].")
]
KeyFile = Annotated[
    str | None, typer.Option(help="File with the key that clients send as a bearer token.")
]
Model = Annotated[
    str | None, typer.Option(help="Name in `tokenworks models list`, a source, a file or a folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Isa = Annotated[
    str | None,
    typer.Option(help="auto, amx, avx512bf16, avx512vnni, avx2, neon-i8mm, neon or portable."),
]
Weights = Annotated[
    str | None, typer.Option(help="auto: smaller where as good and faster; file: as they are.")
]
Speculation = Annotated[
    str | None, typer.Option(help="auto: guess tokens where that is faster; off.")
]
DraftModel = Annotated[
    str | None, typer.Option(help="A smaller model of the same vocabulary, which guesses.")
]

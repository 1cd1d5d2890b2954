"""`tokenworks service`: a unit file for systemd that runs this installation."""

import re
import sys
from importlib.resources import files
from pathlib import Path

from tokenworks.cli.console import aside, data
from tokenworks.errors import ConfigError

_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What ProtectHome and PrivateTmp keep from the service."""


def run() -> None:
    """Print the unit. Raises ConfigError if it could not start this installation's program."""
    program = find_program(Path(sys.argv[0]), Path(sys.executable))
    data.out(unit(program), end="", highlight=False)
    if hidden := folder_out_of_sight(program):
        aside.print(
            f"note: the service does not see {hidden}, where this program lies; "
            "install it elsewhere, see docs/guides/service.md",
            style="yellow",
        )


def unit(program: Path) -> str:
    """The unit file's text with this program. Raises ConfigError for a path it cannot hold."""
    path = str(program)
    if not re.fullmatch(r"/[\w./+ @:~=,-]*", path):
        raise ConfigError(
            f"systemd would not take the program's path as it stands: {path!r}",
            hint="install it in a folder named with letters, digits and . _ - only",
        )
    quoted = f'"{path}"' if " " in path else path
    template = files("tokenworks.cli").joinpath("tokenworks.service").read_text("utf-8")
    return template.replace("@PROGRAM@", quoted)


def find_program(called: Path, python: Path) -> Path:
    """The absolute path of `tokenworks`: as it was called, or beside its Python.

    Raises ConfigError if there is none.
    """
    beside = python.parent / "tokenworks"
    for candidate in (called.absolute(), beside):
        if candidate.name == "tokenworks" and candidate.is_file():
            return candidate
    raise ConfigError(
        f"no program 'tokenworks' beside {str(python)!r}",
        hint=f"install it there: {python} -m pip install tokenworks",
    )


def folder_out_of_sight(program: Path) -> str | None:
    """The folder above `program` that the unit's sandbox hides, if there is one."""
    return next((folder for folder in _HIDDEN if program.is_relative_to(folder)), None)

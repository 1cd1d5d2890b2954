"""`tokenworks backup` and `restore`: keys, budgets, ledger, secret and policies in one file.

Parts are imported inside the commands, so that `--help` is quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from tokenworks.cli.options import ConfigFile

File = Annotated[Path, typer.Argument(metavar="FILE")]
PoliciesFile = Annotated[
    str | None, typer.Option(help="File of backends and policies, as for `up`.")
]


def backup(
    file: File,
    policies: PoliciesFile = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over a file that is there.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Write keys, budgets, ledger, secret and policies to one file, also while the factory runs."""
    import time

    from tokenworks import __version__
    from tokenworks.cli.books import place_of
    from tokenworks.cli.console import data
    from tokenworks.config import load
    from tokenworks.store.backup import take
    from tokenworks.store.backup_restore import finish

    place = place_of(load({"gateway.policies": policies}, config_file=config))
    finish(place)
    take(place, file.absolute(), program=__version__, at=time.time(), replace=replace)
    parts = "database, secret and policies" if place.policies else "database and secret"
    size = file.stat().st_size
    data.print(f"{file}: {parts}, {size:,} bytes. Who has it has your keys: keep it safe.")


def restore(
    file: File,
    policies: PoliciesFile = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where keys and books are already.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Put a backup in place, on this machine or another; the factory must not run."""
    import time

    from tokenworks import __version__
    from tokenworks.cli.books import place_of
    from tokenworks.cli.console import aside, data
    from tokenworks.config import load
    from tokenworks.store import backup_restore

    place = place_of(load({"gateway.policies": policies}, config_file=config))
    done = backup_restore.restore(
        place, file.absolute(), program=__version__, at=time.time(), replace=replace
    )
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(done.manifest.made_at))
    data.print(f"restored: the state of {made}")
    for path in done.kept:
        aside.print(f"what was there before is kept in {path}")
    if done.policies is not None:
        aside.print(f"the policies are in {done.policies}: tokenworks up --policies FILE")

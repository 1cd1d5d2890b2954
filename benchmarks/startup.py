"""How long a newcomer waits: from a clone to the first token, and what the install weighs.

    make bench AREA=startup

Uses this machine's package index; clone, environment and model go to a temporary folder.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from factory import start_factory
from harness import ROOT, finish, summary, wait_until_idle
from rich.console import Console
from rich.table import Table

NOT_OURS = ("pip", "setuptools", "_distutils_hack")
"""What `python -m venv` puts there itself."""


def folder_mb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def installed_mb(site_packages: Path) -> float:
    ours = [
        entry
        for entry in site_packages.iterdir()
        if entry.name.split("-")[0].split(".")[0] not in NOT_OURS
    ]
    return sum(folder_mb(entry) if entry.is_dir() else entry.stat().st_size / 1e6 for entry in ours)


def import_s(python: Path) -> float:
    """Whole-process time of `import tokenworks`."""
    start = time.perf_counter()
    subprocess.run([python, "-c", "import tokenworks"], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="From a clone to the first token.")
    parser.add_argument("--install-peers", action="store_true", help="there are none")
    if parser.parse_args().install_peers:
        return
    with tempfile.TemporaryDirectory() as scratch:
        clone, home = Path(scratch) / "clone", Path(scratch) / "home"
        variables = {"TOKENWORKS_HOME": str(home)}
        wait_until_idle()
        began = time.perf_counter()
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        up = ["make", "up", "PORT=0"]
        first = start_factory(up, folder=clone, variables=variables, began=began)
        print(f"first: {first}", file=sys.stderr, flush=True)
        later = []
        for _ in range(5):
            wait_until_idle()
            later.append(start_factory(up, folder=clone, variables=variables))
        python = clone / ".venv" / "bin" / "python"
        imports = [import_s(python) for _ in range(9)]
        (site_packages,) = (clone / ".venv" / "lib").glob("python3*/site-packages")
        size_mb = installed_mb(site_packages)
    ready = [start.ready_s for start in later]
    table = Table("what a newcomer waits for", "measured")
    table.add_row("clone to first token", f"{first.token_s:.0f} s")
    table.add_row("second `make up` to its address", f"{summary(ready)['median']:.2f} s")
    table.add_row("import tokenworks", f"{summary(imports)['median']:.3f} s")
    table.add_row("installed, without pip", f"{size_mb:.0f} MB")
    Console().print(table)
    keys = {
        "fresh_clone_to_first_token_s": round(first.token_s, 1),
        "second_up_ready_s": round(summary(ready)["median"], 2),
        "import_s": round(summary(imports)["median"], 3),
        "core_install_mb": round(size_mb, 1),
    }
    finish("startup", keys, {"second_up_s": summary(ready), "import_s": summary(imports)})


if __name__ == "__main__":
    main()

"""A restore that is killed at each of its steps in turn."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from installations import backed_up, filled, place_at, restored, seen
from tokenworks.errors import UnknownCaller
from tokenworks.store.backup import Place
from tokenworks.store.backup_restore import finish
from tokenworks.store.migrations import STEPS

KILLED = """
import sys
from pathlib import Path
from tokenworks.store import backup_switch, backup_restore, files
from tokenworks.store.backup import Place

folder, file, calls = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
count = 0

def counting(work):
    def counted(*given, **named):
        global count
        count += 1
        if count == calls:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*given, **named)
    return counted

import os
for name in ("replace", "link", "unlink", "fsync"):
    setattr(os, name, counting(getattr(os, name)))
place = Place(
    database=f"sqlite:///{folder / 'tokenworks.db'}", secret=folder / "secret",
    policies=folder / "policies.toml", folder=folder,
)
backup_restore.restore(place, file, program="0.1.0", at=1_795_000_060.0, replace=True)
print("done")
"""


def test_killed_at_any_step_it_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    origin = place_at(tmp_path / "origin")
    key = filled(origin, requests=3)
    file = backed_up(origin, tmp_path / "all.backup")
    new = seen(origin, key)
    outcomes = []
    for calls in range(1, 60):
        place = place_at(tmp_path / f"killed{calls}")
        old_key = filled(place, requests=2)
        old = seen(place, old_key)
        command = [sys.executable, "-c", KILLED, str(place.folder), str(file), str(calls)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode in (0, -9), run.stderr
        finish(place)
        outcomes.append(_state_of(place, key, new, old_key, old))
        left = {path.name for path in place.folder.iterdir() if "restor" in path.name}
        assert {name for name in left if not name.endswith(".partial")} <= {"restore.lock"}
        if not run.stdout:
            assert restored(place, file, replace=True).manifest.schema == len(STEPS)
            assert not list(place.folder.glob(".restore.*"))
        if run.stdout:
            break
    assert run.stdout
    assert outcomes[0] == "old"
    assert outcomes[-1] == "new"
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes.count("new") >= 3


def _state_of(place: Place, key: str, new: Any, old_key: str, old: Any) -> str:
    try:
        found = seen(place, key)
    except UnknownCaller:
        assert seen(place, old_key) == old
        return "old"
    assert found == new
    return "new"

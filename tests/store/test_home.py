"""The state folder."""

import os
import stat
from pathlib import Path

import pytest

from tokenworks.errors import ConfigError
from tokenworks.store.home import Home, default_root


def test_folders_are_made_on_demand_for_their_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "state")
    assert not home.root.exists()

    folders = [home.root, home.models]

    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 2
    assert home.models == home.root / "models"


def test_a_folder_that_cannot_be_made_is_a_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match="cannot be made") as refusal:
        _ = Home(tmp_path / "file").models

    assert refusal.value.hint == "name another one: export TOKENWORKS_HOME=FOLDER"


@pytest.mark.parametrize("data_home", ["", "relative/path"])
def test_the_default_lies_in_the_users_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_home: str
) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path))

    assert default_root(data_home) == tmp_path / ".local" / "share" / "tokenworks"


def test_the_default_follows_xdg(tmp_path: Path) -> None:
    assert default_root(os.fspath(tmp_path)) == tmp_path / "tokenworks"

"""How a folder says that its texts become vectors."""

import json
from pathlib import Path

import pytest

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.folder_pooling import read_pooling

OFF = dict.fromkeys(("pooling_mode_cls_token", "pooling_mode_max_tokens"), False)


def pooling_of(folder: Path, said: object, modules: object = None) -> int | None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    if modules is not None:
        (folder / "modules.json").write_text(json.dumps(modules))
    return read_pooling(folder)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ({}, None),
        ({**OFF, "pooling_mode_mean_tokens": True}, 1),
        ({"pooling_mode_cls_token": True}, 2),
        ({**OFF, "pooling_mode_lasttoken": True}, 3),
        ({"pooling_mode": "mean", "include_prompt": True}, 1),
        ({"pooling_mode": "lasttoken"}, 3),
        ({"pooling_mode": ["cls"]}, 2),
    ],
)
def test_both_spellings_are_read(tmp_path: Path, said: object, number: int | None) -> None:
    assert pooling_of(tmp_path, said) == number


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"pooling_mode_max_tokens": True}, "max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls_token"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["mean", "cls"]}, "mean.*cls"),
        ({"pooling_mode": 3}, "3"),
        ({"pooling_mode": {"mean": "x" * 9999}}, "x"),
    ],
)
def test_another_pooling_is_refused(tmp_path: Path, said: object, shown: str) -> None:
    with pytest.raises(ModelFileError, match=f"pooling by .*{shown}.* is not supported") as refusal:
        pooling_of(tmp_path, said)

    assert len(refusal.value.message) < 400


@pytest.mark.parametrize("text", ["not JSON", "[]", "[" * 60_000], ids=["none", "list", "deep"])
def test_what_cannot_be_read_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(text)

    with pytest.raises(ModelFileError, match="cannot be read"):
        read_pooling(tmp_path)


def test_what_works_on_vectors_after_their_pooling_is_refused(tmp_path: Path) -> None:
    kinds = ("Transformer", "Pooling", "Normalize", "Dense")
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    said = {"pooling_mode_mean_tokens": True}

    with pytest.raises(ModelFileError, match=r"modules.json': module 'Dense' is not supported"):
        pooling_of(tmp_path, said, modules)
    (tmp_path / "modules.json").write_text(json.dumps(modules[:3]))
    assert read_pooling(tmp_path) == 1

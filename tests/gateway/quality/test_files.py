from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judged_prompts import easy, trained
from tokenworks.errors import ModelFileError
from tokenworks.gateway.quality.files import MAGIC, load, save
from tokenworks.gateway.quality.router import QualityRouter

ROUTER = trained()


def written(folder: Path, router: QualityRouter = ROUTER) -> Path:
    save(router, folder / "router")
    return folder / "router"


def test_a_router_is_read_as_it_was_written(tmp_path: Path) -> None:
    read = load(written(tmp_path))

    assert read == ROUTER
    assert read.chances([easy(1)])[0].tolist() == ROUTER.chances([easy(1)])[0].tolist()
    assert [found.name for found in tmp_path.iterdir()] == ["router"]


@given(st.data())
@settings(max_examples=60)
def test_a_torn_or_changed_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = written(tmp_path_factory.mktemp("routers"))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    for damaged in (whole[:at], whole[:at] + changed + whole[at + 1 :], whole + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": 7}, "looks at 7 features"),
        ({"curve": ()}, "curve"),
        ({"curve": ROUTER.curve[::-1]}, "curve"),
        ({"quality": 0.123}, "curve"),
        (
            {"weak": msgspec.structs.replace(ROUTER.weak, bias=float("inf"))},
            "not all of its numbers are finite",
        ),
        ({"weak": msgspec.structs.replace(ROUTER.weak, weights=b"1234")}, "features"),
    ],
)
def test_a_whole_file_of_what_makes_no_router_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ModelFileError, match=said):
        load(written(tmp_path, msgspec.structs.replace(ROUTER, **changes)))


def test_fields_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    body = msgspec.msgpack.encode({**msgspec.to_builtins(ROUTER), "more": 1})
    (tmp_path / "router").write_bytes(MAGIC + sha256(body).digest() + body)
    with pytest.raises(ModelFileError, match="does not hold"):
        load(tmp_path / "router")


def test_where_nothing_is_or_can_be_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        load(tmp_path / "none")
    with pytest.raises(ModelFileError, match="cannot be written"):
        save(ROUTER, tmp_path / "none" / "router")

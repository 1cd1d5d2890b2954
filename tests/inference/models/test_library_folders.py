"""Model folders in the library: pulled from this machine's disk, or used where they lie."""

import errno
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from model_folders import INDEX, TAKEN, names_below, write_folder
from tokenworks.errors import DownloadError, ModelFileError, ModelNotFound
from tokenworks.inference.models.catalogue import CatalogueEntry
from tokenworks.inference.models.folder_files import size_of
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import write_random_model
from tokenworks.inference.models.records import Record, StoredFile, read_record
from tokenworks.store.home import Home

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


@pytest.fixture
def library(home: Home) -> Library:
    return Library(home, catalogue=())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "Tiny-0.1B", shards=2)


def visible(home: Home) -> list[str]:
    return sorted(name for name in os.listdir(home.models) if not name.endswith(".lock"))


def test_a_folder_is_pulled_without_its_code_and_pickles(
    library: Library, home: Home, folder: Path
) -> None:
    path = library.pull(f"file:{folder}")

    assert path == home.models / "tiny-0.1b"
    assert names_below(path) == sorted([*TAKEN, *SHARDS, INDEX, "model.json"])
    assert (path / SHARDS[0]).samefile(folder / SHARDS[0])
    assert not (path / "config.json").samefile(folder / "config.json")
    entry = library.list()[0]
    assert (entry.id, entry.path) == ("tiny-0.1b", path)
    assert entry.file_bytes == sum(
        (folder / name).stat().st_size for name in (*TAKEN, *SHARDS, INDEX)
    )
    inspection = library.inspect("tiny-0.1b")
    assert (inspection.file_bytes, inspection.config.layers) == (entry.file_bytes, 2)
    assert inspection.config.name == "tiny-0.1b"

    library.remove("tiny-0.1b")

    assert visible(home) == []
    assert (folder / SHARDS[0]).exists()


def test_a_pulled_folder_survives_its_original(library: Library, folder: Path) -> None:
    path = library.pull(f"file:{folder}")
    for name in (*SHARDS, "config.json"):
        (folder / name).unlink()

    assert library.verify("tiny-0.1b") == path
    load_model(path).close()


@pytest.mark.parametrize("name", [SHARDS[1], "tokenizer.json", "1_Pooling/config.json"])
def test_any_changed_file_is_found(library: Library, folder: Path, name: str) -> None:
    path = library.pull(f"file:{folder}") / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)

    with pytest.raises(ModelFileError, match="checksum has changed") as refusal:
        library.verify("tiny-0.1b")

    assert str(path) in refusal.value.message


def test_a_folder_that_lost_a_file_is_not_pulled_any_more(library: Library, folder: Path) -> None:
    path = library.pull(f"file:{folder}")
    (path / "tokenizer.json").unlink()

    with pytest.raises(ModelNotFound):
        library.path("tiny-0.1b")
    assert (library.pull(f"file:{folder}") / "tokenizer.json").exists()


def test_a_changed_folder_is_pulled_anew(library: Library, folder: Path) -> None:
    path = library.pull(f"file:{folder}")
    before = path.stat().st_ino
    assert library.pull(f"file:{folder}").stat().st_ino == before

    (folder / "tokenizer.json").write_text('{"changed": 1}')

    assert (library.pull(f"file:{folder}") / "tokenizer.json").read_text() == '{"changed": 1}'


def test_a_file_and_a_folder_of_one_name_replace_each_other(
    library: Library, home: Home, folder: Path, tmp_path: Path
) -> None:
    gguf = tmp_path / "Tiny-0.1B.gguf"
    write_random_model(gguf)

    for source in (folder, gguf, folder):
        path = library.pull(f"file:{source}")

        assert path.is_dir() == source.is_dir()
        assert library.verify("tiny-0.1b") == path
    assert visible(home) == ["tiny-0.1b"]


def test_without_links_files_are_copied_if_there_is_room(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    full = Library(home, catalogue=(), free_bytes=lambda folder: (32 << 20) + 5_000)
    with pytest.raises(DownloadError, match="not enough space"):
        full.pull(f"file:{folder}")
    assert visible(home) == []

    path = Library(home, catalogue=()).pull(f"file:{folder}")

    assert not (path / SHARDS[0]).samefile(folder / SHARDS[0])
    assert (path / SHARDS[0]).read_bytes() == (folder / SHARDS[0]).read_bytes()
    Library(home, catalogue=()).verify("tiny-0.1b")


def test_a_path_of_a_folder_serves_as_a_name_but_is_never_deleted(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), "Tiny-0.1B", "./Tiny-0.1B/"):
        assert (library.id(name), library.path(name)) == ("tiny-0.1b", folder)
        assert library.verify(name) == folder
        assert library.inspect(name).config.layers == 2
        with pytest.raises(ModelNotFound):
            library.remove(name)
    assert folder.exists()


def test_a_folder_that_is_no_model_is_not_taken(
    library: Library, home: Home, folder: Path, tmp_path: Path
) -> None:
    (folder / SHARDS[1]).unlink()
    (tmp_path / "empty").mkdir()

    for path, problem in ((folder, "lacks the shard"), (tmp_path / "empty", "is no model")):
        for use in (library.pull, library.verify):
            with pytest.raises(ModelFileError, match=problem):
                use(f"file:{path}" if use == library.pull else str(path))

    assert visible(home) == []


def test_an_unsupported_family_is_not_taken(library: Library, home: Home, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", model_type="mamba")

    with pytest.raises(ModelFileError, match=f"'{other}': .*'mamba' is not supported"):
        library.pull(f"file:{other}")

    assert visible(home) == []


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/nowhere")], ids=str
)
def test_what_is_no_file_is_not_taken_along(
    library: Library, folder: Path, make: Callable[[Path], None]
) -> None:
    make(folder / "merges.txt")

    assert library.inspect(str(folder)).file_bytes == size_of(library.pull(f"file:{folder}"))
    assert "merges.txt" not in names_below(library.path("tiny-0.1b"))


def test_weights_that_are_not_there_are_named(library: Library, folder: Path) -> None:
    write_folder(folder)
    weights = folder / "model.safetensors"
    weights.unlink()
    weights.symlink_to("/nowhere")

    for use in (library.verify, library.pull, lambda path: size_of(Path(path))):
        with pytest.raises(ModelFileError, match=f"'{weights}' cannot be read: No such file"):
            use(f"file:{folder}" if use == library.pull else str(folder))


@pytest.mark.parametrize("step", ["copying.copy", "local.digest"])
def test_a_file_that_may_not_be_read_is_named(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "config.json"))

    if step == "local.digest":  # of what is here already, when it is compared with the original
        library.pull(f"file:{folder}")
    monkeypatch.setattr(f"tokenworks.inference.models.sources.{step}", refuse)

    with pytest.raises(DownloadError, match=r"config.json' cannot be read or written: Perm"):
        library.pull(f"file:{folder}")


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("{folder}", "is a path, not the name of a pulled model", "pull 'file:{folder}'"),
        ("{folder}/config.json", "is no GGUF file", "ends in .gguf, or the folder"),
        ("{folder}/nope", "There is no file or folder", "how it is written"),
        ("Qwen/Qwen3-0.6B", "There is no file or folder", "hf:Qwen/Qwen3-0.6B"),
    ],
)
def test_a_path_where_none_is_meant_says_what_is(
    library: Library, folder: Path, name: str, problem: str, hint: str
) -> None:
    with pytest.raises(ModelNotFound, match=problem) as refusal:
        library.pull(name.format(folder=folder))

    assert hint.format(folder=folder).replace("'", "") in (refusal.value.hint or "")


def test_a_record_of_the_last_release_is_read(library: Library, home: Home, tmp_path: Path) -> None:
    write_random_model(tmp_path / "m.gguf")
    path = library.pull(f"file:{tmp_path / 'm.gguf'}")
    record = read_record(path.parent)
    assert record is not None
    stored = record.files["model.gguf"]
    old = {
        "source": record.source,
        "sha256": stored.sha256,
        "file_bytes": stored.file_bytes,
        "licence": "MIT",
    }
    (path.parent / "model.json").write_text(json.dumps(old))

    assert library.verify("m") == library.pull(record.source) == path
    assert (library.list()[0].licence, library.list()[0].file_bytes) == ("MIT", stored.file_bytes)
    assert read_record(path.parent) == Record(
        source=record.source,
        files={"model.gguf": StoredFile(stored.sha256, stored.file_bytes)},
        licence="MIT",
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"source": "x"}', '{"source": "x", "files": 1}'])
def test_a_damaged_record_is_no_record(library: Library, home: Home, text: str) -> None:
    (home.models / "m").mkdir()
    (home.models / "m" / "model.json").write_text(text)

    assert library.list() == []
    with pytest.raises(ModelNotFound):
        library.path("m")


def write_wheel(index: Path, folder: Path, *, without: str = "") -> None:
    """A wheel that pip accepts, with a model folder in it."""
    index.mkdir()
    about = "Metadata-Version: 2.1\nName: tiny-folder\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(index / "tiny_folder-1.0-py3-none-any.whl", "w") as archive:
        for name in names_below(folder):
            if name != without:
                archive.write(folder / name, f"tiny/model/{name}")
        archive.writestr("tiny/model-card.md", "not of the folder")
        archive.writestr("tiny_folder-1.0.dist-info/METADATA", about)
        archive.writestr("tiny_folder-1.0.dist-info/WHEEL", tags)
        archive.writestr("tiny_folder-1.0.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


WHEEL = "pypi:tiny-folder==1.0#tiny/model/"


def test_a_folder_comes_out_of_a_wheel(library: Library, index: Path, folder: Path) -> None:
    write_wheel(index, folder)

    path = library.pull(WHEEL)

    assert path == library.path("tiny-folder")
    assert names_below(path) == sorted([*TAKEN, *SHARDS, INDEX, "model.json"])
    assert library.verify("tiny-folder") == path
    load_model(path).close()
    config = (path / "config.json").read_bytes()
    (path / "config.json").write_bytes(config[:-1] + b" ")
    with pytest.raises(ModelFileError, match="checksum has changed"):
        library.verify("tiny-folder")


def test_a_folder_of_the_catalogue_is_held_to_one_checksum(
    home: Home, index: Path, folder: Path
) -> None:
    write_wheel(index, folder)
    Library(home, catalogue=()).pull(WHEEL)
    record = read_record(home.models / "tiny-folder")
    assert record is not None
    entry = CatalogueEntry(
        name="tiny",
        description="A tiny model",
        source=WHEEL,
        sha256=record.sha256,
        licence="MIT",
        file_bytes=record.file_bytes,
        download_bytes=1000,
    )
    Library(home, catalogue=(entry,)).pull("tiny")

    (folder / "tokenizer_config.json").write_text('{"another": true}')
    (index / "tiny_folder-1.0-py3-none-any.whl").unlink()
    index.rmdir()
    write_wheel(index, folder)
    other = Library(Home(home.root.with_name("other")), catalogue=(entry,))
    with pytest.raises(DownloadError, match=f"The checksum of 'tiny' is .*, not {record.sha256}"):
        other.pull("tiny")


@pytest.mark.parametrize(
    ("without", "member", "problem"),
    [
        ("config.json", "tiny/model/", "has no config.json"),
        ("", "tiny/other/", "is no model"),
        (SHARDS[0], "tiny/model/", "lacks the shard|lacks"),
    ],
)
def test_a_wheel_without_a_whole_folder_is_refused(
    library: Library, home: Home, index: Path, folder: Path, without: str, member: str, problem: str
) -> None:
    write_wheel(index, folder, without=without)

    with pytest.raises((DownloadError, ModelFileError), match=problem):
        library.pull(f"pypi:tiny-folder==1.0#{member}")

    assert visible(home) == []

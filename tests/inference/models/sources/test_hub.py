"""The hub as a source: the real huggingface_hub client, and a hub on this machine."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import close_session, constants, hf_hub_download, snapshot_download
from safetensors.numpy import save_file

from factory_process import PROGRAM, surroundings
from hub_server import Hub, HubModel, running_hub
from model_folders import CONFIG, INDEX, TAKEN, names_below, write_folder
from tokenworks.errors import DownloadError, ModelError, ModelFileError, ModelNotFound
from tokenworks.inference.models.library import Library
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.random_model import write_random_model
from tokenworks.inference.models.records import read_record
from tokenworks.inference.models.safetensors import read_folder
from tokenworks.inference.models.sources.hub_heads import model_head
from tokenworks.inference.models.sources.hub_source import HubSource
from tokenworks.inference.models.sources.spelling import own_name, parse_source
from tokenworks.store.home import Home

NAME = "owner/Tiny-Chat"
SOURCE = f"hf:{NAME}"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
PICKLES_AND_CODE = {"pytorch_model.bin", "modeling.py", "README.md"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder") / "made", shards=3)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_random_model(path)
    return path.read_bytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The only hub that the client knows, with a cache of its own and no token."""
    with running_hub() as hub:
        use(hub.address, tmp_path, monkeypatch)
        yield hub
        close_session()


def use(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()


@pytest.fixture
def model(hub: Hub, folder: Path) -> HubModel:
    made = HubModel({name: (folder / name).read_bytes() for name in names_below(folder)})
    hub.models[NAME] = made
    return made


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


@pytest.fixture
def library(home: Home) -> Library:
    return Library(home, catalogue=())


def visible(home: Home) -> list[str]:
    return sorted(name for name in os.listdir(home.models) if not name.endswith(".lock"))


@pytest.mark.usefixtures("model")
def test_a_folder_is_pulled_listed_verified_and_removed(
    library: Library, home: Home, hub: Hub, folder: Path
) -> None:
    told: list[tuple[str, int, int | None]] = []

    path = library.pull(SOURCE, lambda phase, done, total: told.append((phase, done, total)))

    assert path == home.models / "tiny-chat"
    assert names_below(path) == sorted([*TAKEN, *SHARDS, INDEX, "model.json"])
    for name in (*TAKEN, *SHARDS, INDEX):
        assert (path / name).read_bytes() == (folder / name).read_bytes()
    assert PICKLES_AND_CODE.isdisjoint(hub.downloads())
    assert {phase for phase, _, _ in told} == {"downloading", "checking"}
    assert all(total is not None and done <= total for _, done, total in told)
    assert told[-1][1] == told[-1][2]
    for name in (SOURCE, "tiny-chat", "Tiny-Chat", str(path)):
        assert library.path(name) == library.verify(name) == path
        assert library.inspect(name).config.layers == 2
    entry = library.list()[0]
    assert (entry.id, entry.state, entry.licence) == ("tiny-chat", "pulled", "apache-2.0")
    record = read_record(path)
    assert record is not None
    assert (record.source, record.revision) == (SOURCE, "a" * 40)
    assert (
        entry.file_bytes
        == record.file_bytes
        == sum((path / name).stat().st_size for name in (*TAKEN, *SHARDS, INDEX))
    )
    assert visible(home) == ["tiny-chat"]

    library.remove(SOURCE)

    assert visible(home) == []


@pytest.mark.usefixtures("model")
def test_a_pulled_model_needs_no_hub_any_more(library: Library, hub: Hub) -> None:
    path = library.pull(SOURCE)
    hub.asked.clear()

    assert library.pull(SOURCE) == path
    assert hub.asked == []


def test_a_revision_is_what_is_asked_for(library: Library, hub: Hub, model: HubModel) -> None:
    for revision in ("v1.0", "refs/pr/1", model.commit):
        library.pull(f"{SOURCE}@{revision}")

        assert f"/api/models/{NAME}/revision/{revision}" in {path for _, path, _ in hub.asked}


def test_another_owner_s_model_of_the_same_name_replaces_it_only_when_pulled(
    library: Library, hub: Hub, model: HubModel
) -> None:
    hub.models["other/Tiny-Chat"] = model
    library.pull(SOURCE)

    for use in (library.path, library.remove):
        with pytest.raises(ModelNotFound, match="'hf:other/Tiny-Chat' has not been pulled"):
            use("hf:other/Tiny-Chat")
    path = library.pull("hf:other/Tiny-Chat")

    assert library.path("hf:other/Tiny-Chat") == path
    with pytest.raises(ModelNotFound):
        library.path(SOURCE)


def test_one_file_of_weights_is_taken_before_shards(
    library: Library, model: HubModel, tmp_path: Path
) -> None:
    single = write_folder(tmp_path / "single") / "model.safetensors"
    model.files["model.safetensors"] = single.read_bytes()

    assert names_below(library.pull(SOURCE)) == sorted([*TAKEN, "model.json", "model.safetensors"])


def test_gguf_files_are_taken_by_name_or_if_there_is_but_one(
    library: Library, hub: Hub, gguf: bytes
) -> None:
    hub.models["o/one"] = HubModel({"README.md": b"", "config.json": b"{}", "One.Q8.gguf": gguf})
    hub.models["o/two"] = HubModel({"a/A.gguf": gguf, "b.gguf": gguf + b" "})

    assert library.pull("hf:o/one").read_bytes() == gguf
    assert library.pull("hf:o/two#a/A.gguf").read_bytes() == gguf

    assert [entry.id for entry in library.list()] == ["a", "one"]
    assert library.path("hf:o/two#a/A.gguf").name == "model.gguf"


def pickles(model: HubModel) -> None:
    model.files = {"config.json": b"{}", "pytorch_model.bin": b"\x80"}


def nothing(model: HubModel) -> None:
    model.files = {"README.md": b""}


def other_family(model: HubModel) -> None:
    model.files["config.json"] = b'{"model_type": "mamba"}'


def lost_shard(model: HubModel) -> None:
    del model.files[SHARDS[1]]


def strange_index(model: HubModel) -> None:
    model.files[INDEX] = b'{"weight_map": {"t": "../../model.safetensors"}}'


def huge_config(model: HubModel) -> None:
    model.files["config.json"] = b" " * (5 << 20)


def several(model: HubModel) -> None:
    model.files = {"b.Q8.gguf": bytes(2_000_000), "a.Q4.gguf": bytes(1_000_000)}


def pieces(model: HubModel) -> None:
    model.files = {"a-00001-of-00002.gguf": b""}


def leads_out(model: HubModel) -> None:
    model.files = {"../../../evil.gguf": b"GGUF"}


@pytest.mark.parametrize(
    ("change", "problem", "hint"),
    [
        (pickles, "'pytorch_model.bin' only; pickled weights are never opened", "in safetensors"),
        (nothing, f"Repository '{NAME}' is no model", "tokenworks models list"),
        (other_family, f"'{NAME}': model_type 'mamba' is not supported", "supported: .*llama"),
        (lost_shard, f"lacks the shard '{SHARDS[1]}'", "models pull"),
        (strange_index, "no plain name", None),
        (huge_config, "too large", None),
        (several, r"has 2 GGUF files\n  a.Q4.gguf  \(1 MB\)\n  b", f"'{SOURCE}#a.Q4.gguf'"),
        (pieces, "one of 2 pieces", "smaller quantisation"),
        (leads_out, "cannot contain a '..' path segment", None),
    ],
)
def test_what_is_no_model_is_refused_before_weights_are_fetched(
    library: Library,
    home: Home,
    hub: Hub,
    model: HubModel,
    change: Callable[[HubModel], None],
    problem: str,
    hint: str | None,
) -> None:
    change(model)

    with pytest.raises(ModelError, match=problem) as refusal:
        library.pull(SOURCE)

    assert visible(home) == []
    assert not any(name.endswith((".safetensors", ".gguf", ".bin")) for name in hub.downloads())
    assert re.search(hint or "", refusal.value.hint or "")


def missing(hub: Hub) -> str:
    return "hf:owner/absent"


def gated(hub: Hub) -> str:
    hub.models[NAME].token = "hf_secret"
    return SOURCE


def unknown_revision(hub: Hub) -> str:
    return f"{SOURCE}@v9"


def unknown_file(hub: Hub) -> str:
    hub.models[NAME].files["x.gguf"] = b""
    return f"{SOURCE}#y.gguf"


def impossible_name(hub: Hub) -> str:
    return "hf:owner/a--b"


def refusing(status: int) -> Callable[[Hub], str]:
    def prepare(hub: Hub) -> str:
        hub.models[NAME].about_status = status
        return SOURCE

    return prepare


def no_hub(answer: bytes) -> Callable[[Hub], str]:
    def prepare(hub: Hub) -> str:
        hub.answers["/api/models"] = answer
        return SOURCE

    return prepare


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("prepare", "kind", "problem", "hint"),
    [
        (missing, ModelNotFound, "no repository 'owner/absent' at http", "hf auth login"),
        (gated, DownloadError, f"'{NAME}' is gated", "accept them at http.*/Tiny-Chat.*HF_TOKEN"),
        (unknown_revision, ModelNotFound, "no revision 'v9'", "tree/main"),
        (unknown_file, ModelNotFound, "no file 'y.gguf'\n  x.gguf", f"'{SOURCE}#x.gguf'"),
        (impossible_name, ModelNotFound, "cannot be the name", "OWNER/NAME"),
        (refusing(403), DownloadError, "refuses", "hf auth login"),
        (refusing(429), DownloadError, "asks to wait", "later"),
        (refusing(503), DownloadError, "status 503", "pull again"),
        (no_hub(b"<html>"), DownloadError, "could not be fetched", "HF_ENDPOINT"),
        (no_hub(b"[]"), DownloadError, "does not answer as", "HF_ENDPOINT"),
        (no_hub(b"{}"), DownloadError, "does not answer as", "HF_ENDPOINT"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_hub_that_does_not_give_it_says_what_to_do(
    library: Library,
    home: Home,
    hub: Hub,
    prepare: Callable[[Hub], str],
    kind: type[ModelError],
    problem: str,
    hint: str,
) -> None:
    source = prepare(hub)

    with pytest.raises(kind, match=problem) as refusal:
        library.pull(source)

    assert re.search(hint, refusal.value.hint or "")
    assert visible(home) == []


ABOUT = {"id": NAME, "sha": "a" * 40, "tags": [], "siblings": []}
FILE = {"rfilename": "model.safetensors", "size": 3, "blobId": "b" * 40}


@pytest.mark.parametrize(
    "lie",
    [
        {"sha": 3},
        {"sha": "../../../.."},
        {"tags": 3},
        {"tags": [None]},
        {"siblings": [{**FILE, "rfilename": 3}]},
        {"siblings": [{**FILE, "size": "much"}]},
        {"siblings": [{**FILE, "size": -5}]},
        {"siblings": [{**FILE, "size": 1 << 80}]},
        {"siblings": [{**FILE, "lfs": {"sha256": 3, "size": 3, "pointerSize": 3}}]},
    ],
    ids=str,
)
def test_an_answer_of_another_form_is_no_hub_s(
    library: Library, hub: Hub, lie: dict[str, object]
) -> None:
    hub.answers["/api/models"] = json.dumps({**ABOUT, **lie}).encode()

    with pytest.raises(DownloadError, match="does not answer as a Hugging Face Hub does"):
        library.pull(SOURCE)


def test_a_model_that_is_refused_is_called_by_its_source(library: Library, model: HubModel) -> None:
    model.files[SHARDS[1]] = model.files[SHARDS[1]][:-8]

    with pytest.raises(ModelFileError, match=f"'{SOURCE}/{SHARDS[1]}': truncated"):
        library.pull(SOURCE)


def test_without_a_network_the_address_is_named_but_no_password(
    library: Library, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    use(f"http://me:verysecret@127.0.0.1:{port}", tmp_path, monkeypatch)

    with pytest.raises(DownloadError, match=f"from http://127.0.0.1:{port}: ") as refusal:
        library.pull(SOURCE)

    close_session()
    assert "verysecret" not in str(refusal.value)
    assert visible(home) == []


@pytest.mark.usefixtures("model")
def test_a_full_disk_is_found_before_weights_are_fetched(home: Home, hub: Hub) -> None:
    library = Library(home, catalogue=(), free_bytes=lambda folder: (32 << 20) + 100_000)

    with pytest.raises(DownloadError, match="not enough space") as refusal:
        library.pull(SOURCE)

    assert "TOKENWORKS_HOME" in (refusal.value.hint or "")
    assert not any(name.endswith(".safetensors") for name in hub.downloads())
    assert visible(home) == []


def test_an_interrupted_pull_goes_on_where_it_was(
    library: Library, home: Home, hub: Hub, model: HubModel
) -> None:
    model.status[SHARDS[1]] = 503
    with pytest.raises(DownloadError, match="status 503") as refusal:
        library.pull(SOURCE)
    assert "kept" in (refusal.value.hint or "")
    assert visible(home) == [".kept-tiny-chat"]
    assert library.list() == []
    with pytest.raises(ModelNotFound):
        library.path("tiny-chat")
    model.status.clear()
    hub.asked.clear()

    library.verify(library.pull(SOURCE).name)

    assert [name for name in hub.downloads() if name in SHARDS] == SHARDS[1:]
    assert visible(home) == ["tiny-chat"]


def test_what_an_interrupted_pull_left_can_be_removed(
    library: Library, home: Home, model: HubModel
) -> None:
    model.status[SHARDS[1]] = 503
    with pytest.raises(DownloadError):
        library.pull(SOURCE)

    library.remove("tiny-chat")

    assert visible(home) == []
    with pytest.raises(ModelNotFound):
        library.remove("tiny-chat")


def test_the_space_of_what_has_arrived_is_not_asked_for_again(
    library: Library, home: Home, model: HubModel
) -> None:
    model.status[SHARDS[2]] = 503
    with pytest.raises(DownloadError):
        library.pull(SOURCE)
    model.status.clear()
    room = (32 << 20) + len(model.files[SHARDS[2]]) + 1_000

    Library(home, catalogue=(), free_bytes=lambda folder: room).pull(SOURCE)

    assert visible(home) == ["tiny-chat"]


def test_a_connection_that_breaks_is_taken_up_again_without_a_word(
    home: Home, hub: Hub, model: HubModel, tmp_path: Path
) -> None:
    model.breaks_after[SHARDS[0]] = 3_000

    pulled = subprocess.run(
        [*PROGRAM, "models", "pull", SOURCE],
        env={
            **surroundings(home.root),
            **{"HF_ENDPOINT": hub.address, "HF_HOME": os.fspath(tmp_path / "hf")},
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert hub.downloads().count(SHARDS[0]) == 2
    assert pulled.stderr.splitlines() == [f"downloading {SOURCE}", f"checking {SOURCE}"]
    Library(home, catalogue=()).verify("tiny-chat")


DIE = """
import os, signal, sys
from pathlib import Path
from tokenworks.inference.models.library import Library
from tokenworks.store.home import Home

def die(phase, done_bytes, total_bytes):
    if phase == "downloading" and done_bytes > 50_000:
        os.kill(os.getpid(), signal.SIGKILL)

Library(Home(Path(sys.argv[1]))).pull(sys.argv[2], die)
"""


@pytest.mark.usefixtures("model")
def test_a_killed_pull_leaves_nothing_half_published_and_goes_on(
    library: Library, home: Home, hub: Hub, tmp_path: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", DIE, os.fspath(home.root), SOURCE],
        env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": os.fspath(tmp_path / "hf")},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert library.list() == []
    hub.asked.clear()

    library.verify(library.pull(SOURCE).name)

    assert [name for name in hub.downloads() if name in SHARDS] == SHARDS[1:]
    assert visible(home) == ["tiny-chat"]


@pytest.mark.parametrize("name", [SHARDS[1], "tokenizer.json"])
def test_other_bytes_than_the_hub_lists_are_not_taken(
    library: Library, home: Home, model: HubModel, name: str
) -> None:
    changed = bytearray(model.files[name])
    changed[-1] ^= 1
    model.served[name] = bytes(changed)

    with pytest.raises(DownloadError, match=f"'{name}' of '{NAME}' is not what the hub lists"):
        library.pull(SOURCE)

    assert visible(home) == []


def test_a_hub_that_does_not_stop_sending_is_cut_off(
    library: Library, home: Home, model: HubModel
) -> None:
    model.served["tokenizer.json"] = bytes(100_000)

    with pytest.raises(DownloadError, match=r"more of 'tokenizer.json' of .* than its 2 bytes"):
        library.pull(SOURCE)

    assert [name for name in names_below(home.models) if "tokenizer" in name] == [
        *([".kept-tiny-chat/.cache/huggingface/download/tokenizer.json.lock"])
    ]


def test_a_mirror_that_tells_no_sizes_will_do(library: Library, model: HubModel) -> None:
    model.sizes_are_told = False

    library.verify(library.pull(SOURCE).name)


def fill_cache(tmp_path: Path) -> Path:
    return Path(snapshot_download(NAME, cache_dir=tmp_path / "hub-cache"))


@pytest.mark.usefixtures("model")
def test_weights_that_the_hub_s_cache_holds_are_linked_from_there(
    library: Library, hub: Hub, tmp_path: Path
) -> None:
    snapshot = fill_cache(tmp_path)
    hub.asked.clear()

    path = library.pull(SOURCE)

    assert not any("/resolve/" in asked for _, asked, _ in hub.asked)
    for shard in SHARDS:
        assert (path / shard).samefile(snapshot / shard)
        assert not (path / shard).is_symlink()
    assert not (path / "config.json").samefile(snapshot / "config.json")
    library.verify("tiny-chat")


@pytest.mark.usefixtures("model")
def test_offline_the_cache_will_do_if_it_has_all(
    library: Library, home: Home, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = fill_cache(tmp_path)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    load_model(library.pull(SOURCE)).close()
    library.remove(SOURCE)
    (snapshot / SHARDS[2]).unlink()

    with pytest.raises(ModelFileError, match=f"lacks the shard '{SHARDS[2]}'"):
        library.pull(SOURCE)
    with pytest.raises(DownloadError, match=r"HF_HUB_OFFLINE is set, and .* 'o/absent'") as refusal:
        library.pull("hf:o/absent")
    assert refusal.value.hint == "unset HF_HUB_OFFLINE, then pull again"
    assert hub.asked == []
    assert visible(home) == []


def test_offline_a_cached_gguf_file_will_do(
    library: Library, hub: Hub, gguf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models["o/two"] = HubModel({"a.gguf": gguf, "b.gguf": gguf, "config.json": b"{}"})
    hf_hub_download("o/two", "a.gguf", cache_dir=tmp_path / "hub-cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert library.pull("hf:o/two#a.gguf").read_bytes() == gguf


def test_address_and_token_come_from_the_client_s_own_variables(
    hub: Hub, model: HubModel, tmp_path: Path
) -> None:
    model.token = "hf_verysecret"
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": os.fspath(tmp_path / "hf")}

    def pull(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, "models", "pull", SOURCE],
            env={**surroundings(tmp_path), **own, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    refused = [pull(), pull(HF_TOKEN="hf_wrongsecret")]
    allowed = pull(HF_TOKEN="hf_verysecret")

    for answer in refused:
        assert answer.returncode == 1
        assert "is gated" in answer.stderr
        assert "hint: accept them" in answer.stderr
        assert "secret" not in answer.stderr
        assert "Traceback" not in answer.stderr
    assert allowed.returncode == 0, allowed.stderr
    assert (Path(allowed.stdout.strip()) / "config.json").is_file()
    assert "downloading" in allowed.stderr


@pytest.mark.usefixtures("model")
def test_a_head_tells_what_the_whole_model_would(
    library: Library, hub: Hub, model: HubModel, tmp_path: Path
) -> None:
    with model_head(HubSource(NAME, None, None)) as head:
        footprint = footprint_of(head.path)
        assert not any(name in SHARDS and not part for _, name, part in hub.asked)
    assert not head.path.exists()

    pulled = library.pull(SOURCE)

    assert footprint == footprint_of(pulled)
    assert head.download_bytes == library.list()[0].file_bytes
    library.remove(SOURCE)
    fill_cache(tmp_path)
    with model_head(HubSource(NAME, None, None)) as head:
        assert footprint_of(head.path) == footprint


def test_a_head_is_fetched_without_the_weights(hub: Hub, tmp_path: Path) -> None:
    large = tmp_path / "large.safetensors"
    save_file({f"tensor.{n:05}": np.zeros(8, "f4") for n in range(9_000)}, large)
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": large.read_bytes()}
    hub.models["o/large"] = HubModel(files)

    with model_head(HubSource("o/large", None, None)) as head:
        sparse = head.path / "model.safetensors"
        assert len(read_folder(head.path).tensors) == 9_000
        assert sparse.stat().st_size == len(files["model.safetensors"])
    parts = [part for _, path, part in hub.asked if path.endswith("model.safetensors")]

    header_bytes = 8 + int.from_bytes(files["model.safetensors"][:8], "little")
    assert parts == ["bytes=0-262143", f"bytes=0-{header_bytes - 1}"]


@pytest.mark.parametrize("padding", [0, 20 << 20])
def test_a_gguf_file_s_head_is_fetched_as_far_as_it_goes(
    hub: Hub, tmp_path: Path, padding: int
) -> None:
    path = tmp_path / "m.gguf"
    write_random_model(path, metadata={"tokenizer.filler": np.zeros(padding, "u1")})
    hub.models["o/m"] = HubModel({"m.gguf": path.read_bytes() + bytes(100 << 20)})

    with model_head(HubSource("o/m", None, None)) as head:
        assert footprint_of(head.path) == footprint_of(path)
        assert head.path.stat().st_blocks * 512 < path.stat().st_size + (97 << 20)
    parts = [part for method, _, part in hub.asked if part]

    tried = ["bytes=0-16777215", "bytes=0-100663295"]
    assert parts == (tried if padding else tried[:1])


def test_a_head_of_what_is_no_model_says_so(hub: Hub, model: HubModel) -> None:
    model.files = {"m.gguf": b"no model"}
    with pytest.raises(ModelFileError, match="not a GGUF file"), model_head(_source(SOURCE)):
        pass
    model.sizes_are_told = False
    with (
        pytest.raises(DownloadError, match=r"not tell the size of 'model.gguf'"),
        model_head(_source(SOURCE)),
    ):
        pass
    with pytest.raises(ModelNotFound, match="no repository"), model_head(_source("hf:o/absent")):
        pass


def _source(text: str) -> HubSource:
    source = parse_source(text)
    assert isinstance(source, HubSource)
    return source


def test_hub_sources_read_as_they_are_written() -> None:
    assert parse_source("hf:a/b") == HubSource("a/b", None, None)
    assert parse_source("hf:a/b@refs/pr/1") == HubSource("a/b", "refs/pr/1", None)
    assert parse_source("hf:A-1/b.c_d@v1#x y/Z.GGUF") == HubSource("A-1/b.c_d", "v1", "x y/Z.GGUF")
    for text in ("hf:a", "hf:a/b/c", "hf:a/b@", "hf:a/b#", "hf:a/b#x.bin", "hf:../b", "hf:a/.."):
        assert parse_source(text) is None


def test_models_are_called_after_repository_or_file() -> None:
    names = {
        "hf:Qwen/Qwen3-0.6B": "Qwen3-0.6B",
        "hf:Qwen/Qwen3-0.6B@main": "Qwen3-0.6B",
        "hf:a/b#x/Qwen3-0.6B-Q4_K_M.gguf": "Qwen3-0.6B-Q4_K_M",
    }
    for text, name in names.items():
        source = parse_source(text)
        assert source is not None
        assert own_name(source) == name


def test_a_source_that_is_badly_written_comes_with_the_form(library: Library) -> None:
    with pytest.raises(ModelNotFound, match="'hf:gpt2' is no source") as refusal:
        library.pull("hf:gpt2")

    assert "hf:OWNER/NAME" in (refusal.value.hint or "")

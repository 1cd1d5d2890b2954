"""Computed beginnings on disk: the next engine goes on with what is whole and its own."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tokenworks.inference.engine import Engine
from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.executors.scripted import ScriptedExecutor
from tokenworks.inference.messages import Generate, Sampling, Token
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.spill import Spill
from tokenworks.telemetry.clock import ManualClock

PROMPT = list(range(60))
SETTINGS = EngineSettings(model_path="", model_id="m", max_sequences=4, max_batch_tokens=64)
PAGE_BYTES = PAGE_TOKENS * 4


class Worker:
    """An engine with what one before it left in the folder `root`."""

    def __init__(self, root: Path, *, model: str = "a model", most_bytes: int = 2**20) -> None:
        spill = Spill.open(root, model, most_bytes)
        assert spill is not None
        self.spill = spill
        self.engine = Engine(ScriptedExecutor(), SETTINGS, ManualClock(), spill)

    def answer(self, prompt: list[int], tenant: str = "", public: int = 0) -> list[Token]:
        sampling = Sampling(max_tokens=5, seed=3)
        request = Generate(
            request_id="0", prompt=prompt, sampling=sampling, tenant=tenant, public_tokens=public
        )
        assert self.engine.submit(request) is None
        tokens: list[Token] = []
        while step := self.engine.step():
            self.engine.check_integrity()
            tokens += step.tokens
        return tokens

    def save(self) -> int:
        """Save all; how many records were written."""
        written = 0
        while self.engine.save_one():
            written += 1
        return written

    def die(self) -> None:
        """As a killed process does: only the lock is let go of."""
        self.spill.close()


@pytest.fixture
def first(tmp_path: Path) -> Iterator[list[Token]]:
    """The answer of a worker that has saved what it computed and is gone."""
    worker = Worker(tmp_path)
    answer = worker.answer(PROMPT)
    assert worker.save() == 4  # 64 tokens were computed
    assert not worker.engine.save_one()
    worker.die()
    return answer


def records(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.page"))


def ids(tokens: list[Token]) -> list[int]:
    return [token.token for token in tokens]


def test_the_next_worker_goes_on_with_what_was_computed(tmp_path: Path, first: list[Token]) -> None:
    worker = Worker(tmp_path)
    again = worker.answer(PROMPT)

    assert ids(again) == ids(first)
    assert again[0].cached_tokens == len(PROMPT) - 1
    assert worker.answer([*PROMPT, *ids(first)[:4], 7])[0].cached_tokens == len(PROMPT) + 4


def test_what_another_model_computed_is_not_taken_up(tmp_path: Path, first: list[Token]) -> None:
    worker = Worker(tmp_path, model="another model")

    assert worker.answer(PROMPT)[0].cached_tokens == 0
    assert len(records(tmp_path)) == 4
    assert ids(first)


def test_records_of_another_model_put_in_place_of_ours_are_not_taken_up(
    tmp_path: Path, first: list[Token]
) -> None:
    Worker(tmp_path, model="another model").die()
    ours = next(path for path in tmp_path.iterdir() if not list(path.glob("*.page")))
    for path in records(tmp_path):
        path.rename(ours / path.name)
    worker = Worker(tmp_path, model="another model")

    assert worker.answer(PROMPT)[0].cached_tokens == 0
    assert records(tmp_path) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data + b"\0",
        lambda data: b"x" + data[1:],
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: data[:100] + bytes([data[100] ^ 128]) + data[101:],
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        lambda data: os.urandom(len(data)),
        lambda data: b"tokenworks page 1\n" + b"\xff" * 200,
    ],
)
@pytest.mark.parametrize("which", range(4))
def test_a_damaged_record_is_computed_again(
    tmp_path: Path, first: list[Token], harm: Callable[[bytes], bytes], which: int
) -> None:
    path = records(tmp_path)[which]
    path.write_bytes(harm(path.read_bytes()))
    worker = Worker(tmp_path)
    again = worker.answer(PROMPT)

    assert ids(again) == ids(first)
    cached = again[0].cached_tokens
    assert cached is not None
    assert cached < len(PROMPT) - 1 or len(records(tmp_path)) == 3  # the answer's own rows
    worker.save()
    assert len(records(tmp_path)) == 4
    worker.die()
    assert Worker(tmp_path).answer(PROMPT)[0].cached_tokens == len(PROMPT) - 1


def test_what_is_no_record_is_removed(tmp_path: Path, first: list[Token]) -> None:
    folder = records(tmp_path)[0].parent
    for name in ("notes.txt", "0" * 32 + ".page", ".x.page.partial"):
        (folder / name).write_bytes(b"what is this?")
    worker = Worker(tmp_path)

    assert ids(worker.answer(PROMPT)) == ids(first)
    assert len(list(folder.iterdir())) == 4 + 1


def test_a_folder_belongs_to_one_worker(tmp_path: Path) -> None:
    worker = Worker(tmp_path)

    assert Spill.open(tmp_path, "a model", 2**20) is None
    worker.die()
    assert Spill.open(tmp_path, "a model", 2**20) is not None


def test_a_folder_that_cannot_be_made_is_gone_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert Spill.open(tmp_path / "file" / "cache", "a model", 2**20) is None


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for path in tmp_path.iterdir():
        (path / "lock").unlink()
        path.rmdir()

    assert len(worker.answer(PROMPT)) == 5
    assert not worker.engine.save_one()


def test_nobody_else_may_read_it(tmp_path: Path, first: list[Token]) -> None:
    folder = records(tmp_path)[0].parent

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert ids(first)


def test_tenants_stay_apart(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for tenant in "ab":
        worker.answer(PROMPT, tenant, public=32)
    worker.save()
    worker.die()
    worker = Worker(tmp_path)

    assert worker.answer(PROMPT, "c")[0].cached_tokens == 0
    assert worker.answer(PROMPT, "d", public=32)[0].cached_tokens == 32
    assert worker.answer(PROMPT, "a", public=32)[0].cached_tokens == len(PROMPT) - 1


def test_the_folder_stays_within_its_bound_and_keeps_what_is_of_use(tmp_path: Path) -> None:
    record = PAGE_BYTES + 4096
    worker = Worker(tmp_path, most_bytes=5 * record)
    for _ in range(3):
        worker.answer(PROMPT)  # four pages
    for start in range(60, 90):
        worker.answer(list(range(start, start + 7)))
    worker.save()
    worker.die()

    assert len(records(tmp_path)) == 5
    assert sum(path.stat().st_size for path in records(tmp_path)) <= 5 * record
    worker = Worker(tmp_path, most_bytes=5 * record)
    assert worker.answer(PROMPT)[0].cached_tokens == len(PROMPT) - 1


def test_what_is_worth_more_takes_the_place_of_what_is_worth_less(tmp_path: Path) -> None:
    worker = Worker(tmp_path, most_bytes=4 * (PAGE_BYTES + 4096))
    worker.answer(PROMPT)
    worker.save()
    before = records(tmp_path)
    other = [90 - token for token in PROMPT]
    for _ in range(4):
        worker.answer(other)
    worker.save()
    worker.die()

    assert len(records(tmp_path)) == 4
    assert set(before).isdisjoint(records(tmp_path))
    worker = Worker(tmp_path)
    assert worker.answer(other)[0].cached_tokens == len(other) - 1


def test_what_memory_forgets_goes_from_disk(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    answer = worker.answer([1, 2, 3])
    worker.save()
    before = records(tmp_path)
    worker.answer([1, 2, 3, *ids(answer), 9])  # goes on from it, and takes its place
    worker.save()

    assert len(before) == len(records(tmp_path)) == 1
    assert before != records(tmp_path)


def test_what_other_models_left_gives_way(tmp_path: Path, first: list[Token]) -> None:
    Worker(tmp_path, model="another model", most_bytes=2**20).die()
    assert len(records(tmp_path)) == 4
    worker = Worker(tmp_path, model="a third", most_bytes=100)

    assert records(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1
    assert len(worker.answer(PROMPT)) == len(first)


def test_a_smaller_memory_takes_up_what_it_holds(tmp_path: Path, first: list[Token]) -> None:
    spill = Spill.open(tmp_path, "a model", 2**20)
    executor = ScriptedExecutor()
    executor.page_bytes = PAGE_BYTES
    settings = EngineSettings(
        model_path="", model_id="m", max_sequences=1, context_length=0, max_batch_tokens=64
    )
    executor.context_length = 3 * PAGE_TOKENS
    engine = Engine(executor, settings, ManualClock(), spill)
    sampling = Sampling(max_tokens=1)
    engine.submit(Generate(request_id="0", prompt=PROMPT[:47], sampling=sampling))
    step = engine.step()

    assert step is not None
    assert step.tokens[0].cached_tokens == 32  # the third page gives way to the request's own
    engine.check_integrity()
    assert ids(first)

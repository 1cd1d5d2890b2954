"""Footprints are what the kernels take, to the byte; the catalogue's are what its files say."""

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference.executors.base import PAGE_TOKENS
from tokenworks.inference.executors.native import NativeExecutor
from tokenworks.inference.models.catalogue import CATALOGUE, CatalogueEntry
from tokenworks.inference.models.footprint import Footprint
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.pulled import model_in
from tokenworks.inference.models.quantisation import ENCODED
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.store.home import default_root


@pytest.mark.parametrize("type", ENCODED)
@pytest.mark.parametrize("tied", [True, False])
def test_packed_bytes_are_those_that_the_kernels_take(
    tmp_path: Path, type: TensorType, tied: bool
) -> None:
    path = tmp_path / "m.gguf"
    config = replace(TINY_CONFIG, vocabulary=333, tied_embedding=tied)
    write_random_model(path, config, type=type, embedding_type=TensorType.Q8_0)
    executor = NativeExecutor(load_model(path), isa="portable", threads=1, context_length=0)

    found = footprint_of(path)

    assert found.packed_bytes == executor.weight_bytes
    assert found.kv_bytes(1) == found.kv_bytes(PAGE_TOKENS) == executor.page_bytes


@pytest.mark.parametrize("head_dim", [16, 48, 64, 272])
def test_pages_of_int8_take_what_the_kernels_take_and_about_half_of_bf16(
    tmp_path: Path, head_dim: int
) -> None:
    path = tmp_path / "m.gguf"
    write_random_model(path, replace(TINY_CONFIG, head_dim=head_dim, rope_dim=16))
    executor = NativeExecutor(
        load_model(path), isa="portable", threads=1, context_length=0, kv_format="int8"
    )

    wide = footprint_of(path)
    found = msgspec.structs.replace(wide, kv_format="int8")

    assert found.kv_bytes(1) == found.kv_bytes(PAGE_TOKENS) == executor.page_bytes
    assert found.kv_bytes(1) / wide.kv_bytes(1) == pytest.approx(0.5 + 1 / head_dim)


def test_rows_that_are_no_whole_groups_are_stored_as_bf16(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_random_model(path, replace(TINY_CONFIG, hidden=48, feed_forward=80, vocabulary=100))
    executor = NativeExecutor(load_model(path), isa="portable", threads=1, context_length=0)

    assert footprint_of(path).packed_bytes == executor.weight_bytes


@given(st.integers(1, 100_000))
def test_kv_is_taken_in_whole_pages(tokens: int) -> None:
    size = Footprint(
        packed_bytes=1, layers=2, kv_heads=3, head_dim=16, vocabulary=9, context_length=10
    )

    pages = size.kv_bytes(tokens) / (PAGE_TOKENS * size.kv_bytes_per_token)

    assert pages == int(pages)
    assert 0 <= size.kv_bytes(tokens) - tokens * size.kv_bytes_per_token < size.kv_bytes(1)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_the_catalogue_says_what_the_files_header_says(entry: CatalogueEntry) -> None:
    root = Path(os.environ.get("TOKENWORKS_HOME") or default_root(""))
    folder = root / "models" / entry.name
    if not folder.is_dir():
        pytest.skip(f"{entry.name} is not pulled here")

    assert entry.footprint == footprint_of(model_in(folder))

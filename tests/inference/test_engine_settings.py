"""The engine's settings: what contradicts itself or is out of range is refused."""

import msgspec
import pytest

from tokenworks.errors import ConfigError
from tokenworks.inference.client import encode_settings
from tokenworks.inference.settings import EngineSettings


def test_settings_survive_the_way_to_the_worker() -> None:
    settings = EngineSettings(model_path="m.gguf", model_id="m", isa="avx2", threads=3)

    assert msgspec.json.decode(encode_settings(settings), type=EngineSettings) == settings


def test_a_batch_too_small_for_its_sequences_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match="max_batch_tokens 8 is less than max_sequences 9"):
        EngineSettings(model_path="", model_id="", max_sequences=9, max_batch_tokens=8)


@pytest.mark.parametrize(
    "change",
    [
        {"threads": -1},
        {"threads": 5000},
        {"executor": "fast"},
        {"isa": "mmx"},
        {"kv_memory_mb": 0},
        {"thread": 2},
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(change))):
        msgspec.convert({"model_path": "", "model_id": "", **change}, EngineSettings)

from pathlib import Path

import pytest

from tokenworks.errors import RequestError
from tokenworks.gateway.quality.pairs import read_pairs


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.csv", 'prompt,small,large,more\n"a, b",True,0.5,x\nc,false,1,y\n'),
        (
            "data.jsonl",
            '{"prompt": "a, b", "small": true, "large": 0.5}\n\n'
            '{"prompt": "c", "small": false, "large": 1}\n',
        ),
    ],
)
def test_both_kinds_of_file_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    pairs = read_pairs(tmp_path / name, "small", "large")

    assert pairs.prompts == ["a, b", "c"]
    assert pairs.weak.tolist() == [1.0, 0.0]
    assert pairs.strong.tolist() == [0.5, 1.0]
    assert pairs.names == ("small", "large")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no records"),
        ("[1]\n", "Record 1 of .* is no object"),
        ('{"prompt": "a", "small": true}\n', "no column 'large'"),
        ('{"prompt": " ", "small": true, "large": true}\n', "Record 1 has no prompt"),
        ('{"prompt": "a", "small": 2, "large": true}\n', "Record 1: small is '2'"),
        ('{"prompt": "a", "small": NaN, "large": true}\n', "Record 1: small is 'nan'"),
        (
            '{"prompt": "a", "small": 1, "large": true}\n{"prompt": "b", "small": 1}\n',
            "Record 2: large is 'none'",
        ),
        ("{\n", "neither CSV nor JSON"),
        ("[" * 100_000, "neither CSV nor JSON"),
    ],
)
def test_bad_data_is_refused_by_record_and_field(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "data.jsonl").write_text(text)
    with pytest.raises(RequestError, match=said):
        read_pairs(tmp_path / "data.jsonl", "small", "large")


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_pairs(tmp_path / "none.csv", "small", "large")
    (tmp_path / "data.csv").write_bytes(b"prompt,small,large\n\xff\xfe\x00,1,1\n")
    with pytest.raises(RequestError, match="neither CSV nor JSON"):
        read_pairs(tmp_path / "data.csv", "small", "large")


def test_one_model_is_no_pair(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="both"):
        read_pairs(tmp_path / "none.csv", "small", "small")

"""What stands between us and the tokenizers library."""

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers import pre_tokenizers as pre
from tokenizers.models import BPE

from tokenworks.errors import ModelFileError
from tokenworks.inference.text.library import continuing, failures_as


class PanicException(BaseException):
    """Named as the library's."""


@pytest.mark.parametrize("problem", [ValueError("x"), PanicException("x"), RecursionError("x")])
def test_every_failure_of_the_library_becomes_ours(problem: BaseException) -> None:
    with (
        pytest.raises(ModelFileError, match="it failed: x"),
        failures_as(lambda text: ModelFileError(f"it failed: {text}")),
    ):
        raise problem


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), SystemExit(), ModelFileError("mine")])
def test_what_is_none_of_its_failures_passes(problem: BaseException) -> None:
    with pytest.raises(type(problem)) as passed, failures_as(lambda text: ModelFileError(text)):
        raise problem

    assert passed.value is problem


def test_only_the_first_space_makes_a_second_tokenizer() -> None:
    tokenizer = Tokenizer(BPE(vocab={"▁": 0, "a": 1, "x y": 2}, merges=[]))
    assert continuing(tokenizer) is tokenizer

    tokenizer.pre_tokenizer = pre.Metaspace(prepend_scheme="always")
    assert continuing(tokenizer) is tokenizer

    metaspace = pre.Metaspace(prepend_scheme="first", split=False)
    tokenizer.pre_tokenizer = pre.Sequence([metaspace])
    tokenizer.add_tokens([AddedToken("x y", normalized=False)])
    later = continuing(tokenizer)

    assert tokenizer.encode("ax ya").ids == [0, 1, 2, 1]
    assert later.encode("ax ya").ids == [1, 2, 1]

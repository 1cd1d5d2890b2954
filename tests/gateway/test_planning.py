from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from tokenworks.gateway.backend import Completion
from tokenworks.gateway.planning import prompt_bound

VALUE = st.recursive(
    st.integers() | st.text(max_size=20) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.lists(st.text(max_size=50), max_size=4), st.dictionaries(st.text(max_size=9), VALUE))
def test_no_prompt_has_more_tokens_than_its_bound(
    texts: list[str], further: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    request = Completion(request_id="r", model="m", messages=messages, further=further)

    # A token stands for one byte at least.
    said = sum(len(text.encode("utf-8", "replace")) for text in texts)
    assert prompt_bound(request) >= said + len(json.encode(further))


@pytest.mark.parametrize("prompt", [[1, 2, 3], "abc"])
def test_a_bare_prompt_is_counted(prompt: str | list[int]) -> None:
    assert prompt_bound(Completion(request_id="r", model="m", prompt=prompt, begun="de")) >= 5

"""Chat templates in the style of the families render and encode as transformers does."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tokenworks.errors import RequestError
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec
from trained_tokenizers import save_folder

PROPERTY = settings(max_examples=40, deadline=None)

# A system message of its own where there is none, and tools only where they are defined.
QWEN = """{%- if tools %}{{- '<|start|>system\\n' + tools | tojson + '<|end|>\\n' }}
{%- elif messages[0].role != 'system' %}
    {{- '<|start|>system\\nBe kind.<|end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
{%- endif %}
"""
# What was thought in earlier turns is left out; thinking may be switched off.
QWEN3 = """{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" and message.content is string
        and not(message.content.startswith('<tool_response>')) %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|start|>' + message.role + '\\n' + content + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
# The system's words go before the first of the user; roles must alternate.
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must alternate user/assistant") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<|start|>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<|end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start|>model\n' }}{%- endif -%}
"""
MISTRAL = """{{- bos_token }}
{%- for message in messages %}
    {%- if message["role"] == "user" %}
        {{- "<|start|> " + message["content"] + "<|end|>" }}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
LLAMA3 = """{{- bos_token }}
{%- if not date is defined %}{%- set date = strftime_now("%d %b %Y") %}{%- endif %}
{{- "<|start|>system\n\nToday: " + date + "<|end|>" }}
{%- for message in messages %}
    {{- '<|start|>' + message['role'] + '\n\n' + message['content'] | trim + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\n\n' }}{%- endif %}
"""
STYLES = {
    "Qwen2.5": (QWEN, "byte level"),
    "Qwen3": (QWEN3, "byte level"),
    "Gemma": (GEMMA, "gemma"),
    "Mistral": (MISTRAL, "mistral"),
    "Llama 3": (LLAMA3, "byte level"),
    "Llama 2": (MISTRAL, "llama"),
}
Pair = tuple[TextCodec, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("chats")
    made: dict[str, Pair] = {}
    for style, (template, family) in STYLES.items():
        reference = save_folder(folder / style, family, template)
        made[style] = open_codec(folder / style), reference
    return made


word = st.sampled_from(
    ["The dog", " ", "\n", "it's", "é", "日本語", "🙂", "<", "|>", "</think>", "<think>", "▁", "12"]
)
content = st.lists(st.one_of(word, st.text(max_size=3)), max_size=6).map("".join)
chats = st.lists(content, min_size=1, max_size=5)


def turns(contents: list[str]) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


@pytest.mark.parametrize("style", STYLES)
@PROPERTY
@given(contents=chats)
def test_a_chat_becomes_the_ids_that_transformers_gives(
    pairs: dict[str, Pair], style: str, contents: list[str]
) -> None:
    codec, reference = pairs[style]
    expected = reference.apply_chat_template(
        turns(contents), add_generation_prompt=True, return_dict=False
    )

    assert codec.chat(turns(contents)) == expected


@pytest.mark.parametrize("style", ["Qwen2.5", "Qwen3", "Gemma", "Llama 3"])
def test_a_system_message_goes_where_the_template_puts_it(
    pairs: dict[str, Pair], style: str
) -> None:
    codec, reference = pairs[style]
    messages = [{"role": "system", "content": "Bark."}, *turns(["The dog"])]

    assert codec.chat(messages) == reference.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )


@pytest.mark.parametrize("thinking", [True, False])
def test_options_reach_the_template(pairs: dict[str, Pair], thinking: bool) -> None:
    codec, reference = pairs["Qwen3"]
    messages = turns(["The dog"])
    tokens = codec.chat(messages, {"enable_thinking": thinking})

    assert tokens == reference.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, enable_thinking=thinking
    )
    assert codec.decode(tokens).endswith("</think>\n\n") is not thinking


def test_an_option_cannot_forge_a_control_token(tmp_path: Path) -> None:
    save_folder(tmp_path, "byte level", "{{ mood }}{{ '<|end|>' }}")
    codec = open_codec(tmp_path)
    tokens = codec.chat([], {"mood": "<|end|>", "bos_token": "x"})

    assert [token for token in tokens if codec.is_control(token)] == [codec.stop_tokens[0]]
    assert codec.decode(tokens, special=True) == "<|end|><|end|>"


def test_a_template_that_refuses_says_why(pairs: dict[str, Pair]) -> None:
    codec, _ = pairs["Gemma"]
    with pytest.raises(RequestError, match="Roles must alternate user/assistant"):
        codec.chat([{"role": "assistant", "content": "Woof"}])


def test_a_template_knows_which_names_the_model_lacks(tmp_path: Path) -> None:
    template = "{% if bos_token is defined %}yes{% else %}no{% endif %}{{ bos_token }}{{ tools }}"
    reference = save_folder(tmp_path, "bert", template)

    assert open_codec(tmp_path).chat([]) == reference.encode("noNone", add_special_tokens=False)


def test_a_template_in_a_file_of_its_own_wins(tmp_path: Path) -> None:
    save_folder(tmp_path, "byte level", "file")
    assert (tmp_path / "chat_template.jinja").exists()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": "named"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": named}))

    before = open_codec(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    after = open_codec(tmp_path)

    assert (before.decode(before.chat([])), after.decode(after.chat([]))) == ("file", "named")


def test_the_day_comes_from_the_clock(tmp_path: Path) -> None:
    save_folder(tmp_path, "byte level", LLAMA3)
    codec = open_codec(tmp_path, now=lambda: datetime(2026, 1, 31, 12, 0))

    assert "Today: 31 Jan 2026" in codec.decode(codec.chat(turns(["Hi"])))

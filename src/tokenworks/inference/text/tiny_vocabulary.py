"""A tiny tokenizer with every byte, some merges and a chat template: real, small, for tests."""

import numpy as np

from tokenworks.inference.models.gguf_writer import Writable
from tokenworks.inference.text.vocabulary import TokenKind, byte_alphabet

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a test<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = ("<tool>", "</tool>")
_MERGES = (
    *("t h", "th e", "i n", "e r", "o n", "a n", "Ġ the", "Ġ a", "e n", "Ġ th", "o r", "Ġ i"),
    *("Ġi s", "in g", "an d", "Ġ and", "h e", "l l", "he ll", "hell o", "Ġ hello", "Ċ Ċ"),
)


def tiny_vocabulary(pre: str = "smollm", chat_template: str = CHATML) -> dict[str, Writable]:
    """GGUF metadata of a byte-level BPE tokenizer with fewer than 300 tokens."""
    merged = [merge.replace(" ", "") for merge in _MERGES]
    normal = [*byte_alphabet(), *merged]
    kinds = (
        [TokenKind.CONTROL] * len(CONTROL)
        + [TokenKind.NORMAL] * len(normal)
        + [TokenKind.USER_DEFINED] * len(USER_DEFINED)
    )
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*CONTROL, *normal, *USER_DEFINED],
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.merges": list(_MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": chat_template,
    }

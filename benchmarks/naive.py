"""The unoptimised way: transformers, eager, one request after the other."""

import time
from collections.abc import Sequence
from pathlib import Path

from tokenworks.inference.models.model import load_model


class Naive:
    """A Llama of the same shape in float32 with random weights: what is in them takes no time."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        torch.set_num_threads(threads)
        config = load_model(path).config
        settings = transformers.LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.hidden,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            tie_word_embeddings=True,
        )
        self._torch = torch
        self._model = transformers.LlamaForCausalLM(settings).eval()

    def batch_tps(self, sequences: int, prompt: int, tokens: int) -> float:
        """Output tokens per second of so many requests, prompts included."""
        return self.served_tps([(prompt, tokens)] * sequences)

    def served_tps(self, lengths: Sequence[tuple[int, int]]) -> float:
        """The same of requests with so many tokens of prompt and answer each."""
        start = time.perf_counter()
        for prompt, tokens in lengths:
            inputs = self._torch.randint(5, self._model.config.vocab_size, (1, prompt))
            self._model.generate(
                inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
            )
        return sum(tokens for _, tokens in lengths) / (time.perf_counter() - start)

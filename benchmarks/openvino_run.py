"""Runs in OpenVINO's environment: MODEL PROPERTIES. Each line of standard input asks for one thing,
[what, sequences, prompt, tokens]; its line of standard output begins with `answer `.
"""

import json
import sys
import time
from functools import cache

import openvino_genai as genai

model, properties = sys.argv[1], json.loads(sys.argv[2])
QUESTION = "What is the capital of France?"
texts_made = 0


def configuration(count: int, chat: bool = False) -> genai.GenerationConfig:
    settings = genai.GenerationConfig()
    settings.max_new_tokens = count
    settings.min_new_tokens = count
    settings.ignore_eos = True
    settings.do_sample = False
    settings.apply_chat_template = chat
    return settings


def words(count: int) -> str:
    """A text of about that many tokens (common words are one token each), never the same twice, so
    that nothing of an earlier one is reused."""
    global texts_made
    texts_made += 1
    common = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child")
    digits = [int(digit) for digit in f"{texts_made:04d}"][-count:]
    rest = [(texts_made * 7 + place * 3) % 10 for place in range(count - len(digits))]
    return " ".join(common[place] for place in [*digits, *rest])


@cache
def one_at_a_time() -> genai.LLMPipeline:
    pipe = genai.LLMPipeline(model, "CPU", **properties)
    pipe.generate([words(64)], configuration(2))
    return pipe


@cache
def many_at_once(sequences: int) -> genai.ContinuousBatchingPipeline:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.max_num_seqs = sequences
    scheduler.enable_prefix_caching = False
    return genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)


def single(what: str, prompt: int, tokens: int) -> float:
    pipe = one_at_a_time()
    metrics = pipe.generate([words(prompt)], configuration(max(2, tokens))).perf_metrics
    if what == "prefill":
        return metrics.get_num_input_tokens() / metrics.get_ttft().mean * 1e3
    return 1e3 / metrics.get_tpot().mean


def batch(sequences: int, prompt: int, tokens: int) -> float:
    pipe = many_at_once(sequences)

    def timed(count: int) -> float:
        texts = [words(prompt) for _ in range(sequences)]
        start = time.perf_counter()
        pipe.generate(texts, [configuration(count)] * sequences)
        return time.perf_counter() - start

    timed(2)
    # What reading the prompts takes is in both, and goes.
    return sequences * (tokens - 1) / (timed(tokens) - timed(1))


for line in sys.stdin:
    what, sequences, prompt, tokens = json.loads(line)
    if what == "text":
        settings = configuration(tokens, chat=True)
        answer = one_at_a_time().generate([QUESTION], settings).texts[0]
    elif what == "batch":
        answer = batch(sequences, prompt, tokens)
    else:
        answer = single(what, prompt, tokens)
    print("answer " + json.dumps(answer), flush=True)

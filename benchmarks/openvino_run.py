"""Run in OpenVINO's environment: MODEL, what, threads, sequences, prompt, tokens; prints JSON."""

import json
import sys
import time

import openvino_genai as genai

model, what = sys.argv[1:3]
threads, sequences, prompt, tokens = map(int, sys.argv[3:])
QUESTION = "What is the capital of France?"


def configuration(count: int) -> genai.GenerationConfig:
    settings = genai.GenerationConfig()
    settings.max_new_tokens = count
    settings.min_new_tokens = count
    settings.ignore_eos = True
    settings.do_sample = False
    settings.apply_chat_template = what == "text"
    return settings


def words(number: int, count: int) -> str:
    """A text of about that many tokens: common words are one token each."""
    common = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child")
    return " ".join(common[(number * 7 + place * 3) % 10] for place in range(count))


if what == "batch":
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.max_num_seqs = sequences
    scheduler.enable_prefix_caching = False
    pipe = genai.ContinuousBatchingPipeline(
        model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
    )
    texts = [words(number, prompt) for number in range(sequences)]
    settings = [configuration(tokens)] * sequences

    def timed(count: int) -> float:
        start = time.perf_counter()
        pipe.generate(texts, [configuration(count)] * sequences)
        return time.perf_counter() - start

    timed(2)
    # What reading the prompts takes is in both, and goes.
    rate = sequences * (tokens - 1) / (timed(tokens) - timed(1))
    print(json.dumps({"tokens_per_s": rate}))
else:
    pipe = genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads)
    if what == "text":
        print(json.dumps({"text": pipe.generate([QUESTION], configuration(tokens)).texts[0]}))
    else:
        pipe.generate([words(1, prompt)], configuration(2))
        # Another text from its first word on, so that nothing of the warm-up is reused.
        metrics = pipe.generate([words(2, prompt)], configuration(max(2, tokens))).perf_metrics
        if what == "prefill":
            rate = metrics.get_num_input_tokens() / metrics.get_ttft().mean * 1e3
        else:
            rate = 1e3 / metrics.get_tpot().mean
        print(json.dumps({"tokens_per_s": rate}))

"""llama.cpp as a wheel has it, in a process of its own: what it makes of a model file.

Run as a program with a file and prompts: prints JSON of the likeliest next tokens.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def likeliest(path: Path, prompts: list[list[int]], letter: int) -> list[dict[int, float]]:
    """For each prompt the log-probabilities of the 40 likeliest next tokens, likeliest first.

    `letter` is a token that is text by itself.
    """
    done = subprocess.run(
        [sys.executable, __file__, str(path), json.dumps(prompts), str(letter)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    places = json.loads(done.stdout.splitlines()[-1])
    return [{one["id"]: one["logprob"] for one in place["top_logprobs"]} for place in places]


def main(path: str, prompts: str, letter: str) -> None:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = path
    settings.n_ctx = 256
    settings.n_parallel = 1
    settings.cpuparams.n_threads = 1
    settings.warmup = False
    server = xllamacpp.Server(settings)
    places = []
    for prompt in json.loads(prompts):
        # The token that is drawn does not matter, but one that is half a character would not be
        # told. Log-probabilities are those before any bias.
        answer: Any = server.handle_completions(
            {"prompt": prompt, "max_tokens": 1, "logprobs": 40, "logit_bias": {letter: 1000}}
        )
        places += answer["choices"][0]["logprobs"]["content"]
    sys.stdout.write(f"{json.dumps(places)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

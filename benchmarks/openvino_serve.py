"""Runs in OpenVINO's environment: MODEL SETTINGS PORT. A chat API on its continuous batching.

One thread owns the pipeline and its tokenizer, adds what was asked for, and writes what each step
gave to those who wait for it: with several threads all requests sometimes hung for ever.
"""

import codecs
import json
import os
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

model, settings, port = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
LOOKUP = settings["properties"].get("prompt_lookup", False)


def load() -> genai.ContinuousBatchingPipeline:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = settings["kv_mib"] // 1024
    scheduler.max_num_seqs = settings["sequences"]
    scheduler.enable_prefix_caching = True
    if LOOKUP:  # its documentation advises against prompts in parts then
        scheduler.dynamic_split_fuse = False
        scheduler.max_num_batched_tokens = 8192
    return genai.ContinuousBatchingPipeline(model, scheduler, "CPU", settings["properties"])


pipeline = load()
tokenizer = pipeline.get_tokenizer()
PIECES = {token: piece for piece, token in tokenizer.get_vocab().items()}
END = tokenizer.get_eos_token_id()
numbers = count()
asked: SimpleQueue["Streamed"] = SimpleQueue()


class Streamed:
    """An answer on its way."""

    def __init__(self, body: dict[str, Any], out: Any) -> None:
        self.handle: Any = None
        self.prompt_tokens = self.tokens = 0
        self._body = body
        self.done = threading.Event()
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def begin(self) -> None:
        text = tokenizer.apply_chat_template(self._body["messages"], add_generation_prompt=True)
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).input_ids.data)
        self.prompt_tokens = ids.shape[1]
        config = configuration(self._body)
        self.handle = pipeline.add_request(next(numbers), ov.Tensor(ids), config)

    def forward(self) -> bool:
        """Write what there is; whether it goes on."""
        reason = None
        while self.handle.can_read():
            for output in self.handle.read().values():
                ids = [token for token in output.generated_ids if token >= 0]  # -1: padding
                self.tokens += len(ids)
                text = self._decoder.decode(b"".join(PIECES[i] for i in ids if i != END))
                if text:
                    self._event([{"index": 0, "delta": {"content": text}}])
                if output.finish_reason != genai.GenerationFinishReason.NONE:
                    stop = output.finish_reason == genai.GenerationFinishReason.STOP
                    reason = "stop" if stop else "length"
        if reason is None:
            return True
        self._event([{"index": 0, "delta": {}, "finish_reason": reason}])
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens}
        self._event([], usage=usage)
        return False

    def _event(self, choices: list[dict[str, Any]], **more: object) -> None:
        self._out.write(b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n")


def run() -> None:
    answers: list[Streamed] = []
    while True:
        while not (answers and asked.empty()):
            answers.append(asked.get())
            answers[-1].begin()
        pipeline.step()
        for answer in list(answers):
            if not answer.forward():
                answers.remove(answer)
                answer.done.set()


def configuration(body: dict[str, Any]) -> genai.GenerationConfig:
    config = genai.GenerationConfig()
    config.apply_chat_template = False  # it is applied already
    config.max_new_tokens = body["max_tokens"]
    config.do_sample = body["temperature"] > 0
    if config.do_sample:
        config.temperature, config.top_k = body["temperature"], body["top_k"]
        config.rng_seed = body["seed"]
    if LOOKUP:
        config.num_assistant_tokens = 5
        config.max_ngram_size = 3
    return config


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._head("application/json")
        self.wfile.write(json.dumps({"data": [{"id": "model"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._head("text/event-stream")
        answer = Streamed(body, self.wfile)
        asked.put(answer)
        answer.done.wait()

    def _head(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def run_or_end() -> None:
    """Nobody shall wait for a pipeline that failed."""
    try:
        run()
    finally:
        traceback.print_exc()
        os._exit(1)


threading.Thread(target=run_or_end, daemon=True).start()
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()

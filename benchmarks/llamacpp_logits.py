"""Runs in the peer's environment: tokens as JSON on stdin, their logits into an .npy file."""

import ctypes
import json
import sys

import llama_cpp
import numpy as np

model_path, target, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokens = json.load(sys.stdin)
llama_cpp.llama_backend_init()
model = llama_cpp.llama_model_load_from_file(
    model_path.encode(), llama_cpp.llama_model_default_params()
)
parameters = llama_cpp.llama_context_default_params()
parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = len(tokens)
parameters.n_threads = parameters.n_threads_batch = threads
context = llama_cpp.llama_init_from_model(model, parameters)
batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
batch.n_tokens = len(tokens)
for place, token in enumerate(tokens):
    batch.token[place] = token
    batch.pos[place] = place
    batch.n_seq_id[place] = 1
    batch.seq_id[place][0] = 0
    batch.logits[place] = 1
if llama_cpp.llama_decode(context, batch):
    sys.exit("llama_decode failed")
vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
logits = llama_cpp.llama_get_logits(context)
pointer = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
np.save(target, np.ctypeslib.as_array(pointer, (len(tokens), vocabulary)))

# SPDX-License-Identifier: Apache-2.0
"""The work of engine.c in llama.cpp, one thread:
speed_llama.py MODEL.gguf IDS WINDOWS NAME.  Loading is not timed, and neither is
the loss itself: llama.cpp leaves the logits of all positions in memory, numpy
makes of them what the losses are compared with."""
import ctypes
import statistics
import sys
import time

import llama_cpp
import numpy as np

T, STEPS, REPEATS = 512, 64, 3
windows, name = int(sys.argv[3]), sys.argv[4]
ids = [int(i) for i in open(sys.argv[2]).read().split()]


@llama_cpp.llama_log_callback
def silent(level, text, data):
    pass


llama_cpp.llama_log_set(silent, ctypes.c_void_p())
llama_cpp.llama_backend_init()
model = llama_cpp.llama_model_load_from_file(
    sys.argv[1].encode(), llama_cpp.llama_model_default_params())
params = llama_cpp.llama_context_default_params()
params.n_ctx = T + STEPS
params.n_batch = params.n_ubatch = T
params.n_threads = params.n_threads_batch = 1
params.type_k = params.type_v = 0                       # the cache in F32, too
context = llama_cpp.llama_init_from_model(model, params)
memory = llama_cpp.llama_get_memory(context)
n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
batch = llama_cpp.llama_batch_init(T, 0, 1)


def feed(tokens, position, all_logits):
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i] = token
        batch.pos[i] = position + i
        batch.seq_id[i][0] = 0
        batch.n_seq_id[i] = 1
        batch.logits[i] = all_logits or i == len(tokens) - 1
    start = time.process_time()
    if llama_cpp.llama_decode(context, batch):
        sys.exit("speed_llama.py: llama_decode failed")
    rows = llama_cpp.llama_get_logits(context)          # waits for the result
    return time.process_time() - start, rows


def mean_loss(rows, tokens):
    logits = np.ctypeslib.as_array(rows, shape=(T, n_vocab))[:-1]
    high = logits.max(axis=1)
    total = np.log(np.exp(logits - high[:, None]).sum(axis=1)) + high
    return float((total - logits[np.arange(T - 1), tokens[1:]]).mean())


feed(ids[windows * T:(windows + 1) * T], 0, True)       # warms up
seconds, losses = [], []
for w in range(windows):
    window = ids[w * T:(w + 1) * T]
    llama_cpp.llama_memory_clear(memory, False)
    took, rows = feed(window, 0, True)
    seconds.append(took)
    losses.append(mean_loss(rows, window))
print(f"llama.{name}.prefill_tok_s = {T / statistics.median(seconds):.1f}")
print(f"llama.{name}.loss = {statistics.mean(losses):.5f}")

seconds = []
llama_cpp.llama_memory_clear(memory, False)
feed(ids[:T], 0, False)
for _ in range(REPEATS):
    seconds.append(sum(feed([ids[T + i]], T + i, True)[0] for i in range(STEPS)))
    llama_cpp.llama_memory_seq_rm(memory, 0, T, -1)
print(f"llama.{name}.decode_tok_s = {STEPS / statistics.median(seconds):.2f}")
print(f"llama.version = {llama_cpp.__version__}")

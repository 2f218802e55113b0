# SPDX-License-Identifier: Apache-2.0
"""The work of bench/load in llama.cpp, one thread:
load_llama.py PREFIX MODEL.gguf IDS WINDOW.  Loads and makes a context; with a
window above 0 computes the loss of so many tokens, too.  Prints the seconds
from before loading to the result, the perplexity, and what the interpreter took
before loading (10^6 bytes, seconds of processor time), to be taken off."""
import ctypes
import sys
import time

import llama_cpp
import numpy as np

prefix, path, ids, window = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
ids = [int(i) for i in open(ids).read().split()][:window]


@llama_cpp.llama_log_callback
def silent(level, text, data):
    pass


def resident(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1.024e-3


llama_cpp.llama_log_set(silent, ctypes.c_void_p())
print(f"{prefix}.base_anon_mb = {resident('RssAnon'):.1f}")
print(f"{prefix}.base_file_mb = {resident('RssFile'):.1f}")
print(f"{prefix}.base_cpu_s = {time.process_time():.4f}")
start = time.monotonic()
llama_cpp.llama_backend_init()
model = llama_cpp.llama_model_load_from_file(
    path.encode(), llama_cpp.llama_model_default_params())
if not model:
    sys.exit(f"load_llama.py: {path} cannot be loaded")
params = llama_cpp.llama_context_default_params()
params.n_ctx = params.n_batch = params.n_ubatch = max(window, 1)
params.n_threads = params.n_threads_batch = 1
params.type_k = params.type_v = 0                       # the cache in F32, too
context = llama_cpp.llama_init_from_model(model, params)
if window:
    vocab = llama_cpp.llama_model_get_vocab(model)
    batch = llama_cpp.llama_batch_init(window, 0, 1)
    batch.n_tokens = window
    for i, token in enumerate(ids):
        batch.token[i] = token
        batch.pos[i] = i
        batch.seq_id[i][0] = 0
        batch.n_seq_id[i] = 1
        batch.logits[i] = 1
    if llama_cpp.llama_decode(context, batch):
        sys.exit("load_llama.py: llama_decode failed")
    rows = llama_cpp.llama_get_logits(context)
    loss = 0.0
    logits = np.ctypeslib.as_array(
        rows, shape=(window, llama_cpp.llama_vocab_n_tokens(vocab)))
    for row, token in zip(logits[:-1], ids[1:]):
        high = row.max()
        loss += float(np.log(np.exp(row - high).sum()) + high - row[token])
    print(f"{prefix}.ppl = {np.exp(loss / (window - 1)):.4f}")
print(f"{prefix}.s = {time.monotonic() - start:.4f}")

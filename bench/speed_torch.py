# SPDX-License-Identifier: Apache-2.0
"""The work of engine.c in PyTorch, one thread:
speed_torch.py HF_FOLDER IDS WINDOWS f32|bf16.  Loading is not timed."""
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM

T, STEPS, REPEATS = 512, 64, 3
torch.set_num_threads(1)
torch.set_grad_enabled(False)
windows, name = int(sys.argv[3]), sys.argv[4]
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[name]
ids = [int(i) for i in open(sys.argv[2]).read().split()]
rows = torch.tensor(ids[:(windows + 1) * T]).view(-1, T)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=dtype).eval()

model(input_ids=rows[-1:], labels=rows[-1:])            # warms up
seconds, losses = [], []
for row in rows[:-1]:
    start = time.process_time()
    loss = model(input_ids=row[None], labels=row[None], use_cache=False).loss
    losses.append(float(loss))
    seconds.append(time.process_time() - start)
print(f"torch.{name}.prefill_tok_s = {T / statistics.median(seconds):.1f}")
print(f"torch.{name}.loss = {statistics.mean(losses):.5f}")

seconds = []
cache = model(input_ids=rows[:1], use_cache=True, logits_to_keep=1).past_key_values
for _ in range(REPEATS):
    start = time.process_time()
    for i in range(STEPS):
        cache = model(input_ids=rows[1:2, i:i + 1], past_key_values=cache,
                      use_cache=True).past_key_values
    seconds.append(time.process_time() - start)
    cache.crop(-STEPS)
print(f"torch.{name}.decode_tok_s = {STEPS / statistics.median(seconds):.2f}")
print(f"torch.version = {torch.__version__}")

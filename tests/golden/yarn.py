# SPDX-License-Identifier: Apache-2.0
# Made tests/golden/llama-yarn: a tiny random model with yarn RoPE scaling, and
# what transformers 5.23 computes from it in float32.
#   python yarn.py llama-yarn
import sys
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

folder = sys.argv[1]
torch.manual_seed(11)
config = LlamaConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
    pad_token_id=None, tie_word_embeddings=True,
    rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=4.0, beta_slow=0.25,
        original_max_position_embeddings=32, mscale=1.0, mscale_all_dim=0.5))
model = AutoModelForCausalLM.from_config(config)
with torch.no_grad():
    for name, p in model.named_parameters():
        noise = torch.randn_like(p)
        scale = 0.5 if "embed" in name else 0.25
        p.copy_(1 + 0.1 * noise if "norm" in name else scale * noise)
model.save_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = torch.randint(0, 96, (2, 40))
with torch.no_grad():
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, 96), ids[:, 1:].reshape(-1))
    text = ids[:1, :16]
    for _ in range(24):
        text = torch.cat([text, model(text).logits[:, -1].argmax(-1, keepdim=True)], 1)
save_file({"input_ids": ids, "logits": logits.contiguous(), "loss": loss,
           "generated": text[0].contiguous()}, folder + "/expected.safetensors")

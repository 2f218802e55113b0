# SPDX-License-Identifier: Apache-2.0
"""Llama models whose layers differ, as Lamina writes them.

A layer may have its own number of query heads, key-value heads and FFN width,
and may lack its attention or its MLP block.  `per_layer_config` in config.json
says how it differs from the model's global values, in the form that
transformers knows since 5.14; older versions (from 4.48 on) leave it to this
file.  Everything else is stock Llama: each layer is a LlamaDecoderLayer built
from a configuration of its own.

    AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
    AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)
"""
import copy

from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, LlamaPreTrainedModel
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)


class LaminaConfig(LlamaConfig):
    """Llama's configuration and three more keys:
    per_layer_config  {"LAYER": {"intermediate_size", "num_attention_heads",
                      "num_key_value_heads", "skip": ["attention", "mlp"]}}
    linear_biases     the projections that have a bias, as ["q_proj", "down_proj"]
    qk_norm           the heads of queries and keys are normalised, as in Qwen3
    """

    model_type = "lamina"

    def validate(self):
        """Llama's check, that heads divide the hidden size, has no place here:
        their number is a layer's own, and head_dim is given."""

    def of_layer(self, index):
        """A copy with the values of one layer."""
        layers = getattr(self, "per_layer_config", None) or {}
        own = copy.copy(self if isinstance(layers, dict) else layers[index])
        if isinstance(layers, dict):
            for key, values in layers.items():
                if int(key) == index:
                    own.__dict__.update(values)
        skip = own.__dict__.setdefault("skip", [])
        if "attention" in skip:         # built, then put aside: as small as can be
            own.num_attention_heads = own.num_key_value_heads = 1
        if "mlp" in skip:
            own.intermediate_size = 1
        own.attention_bias = own.mlp_bias = False
        return own


class NoAttention(nn.Module):
    """In place of a removed attention block: adds nothing to the residual."""

    def forward(self, hidden_states, *args, **kwargs):
        return hidden_states.new_zeros(()), None


class NoMLP(nn.Module):
    """In place of a removed MLP block."""

    def forward(self, hidden_states):
        return hidden_states.new_zeros(())


def normalised_attention(own, slot):
    """Stock attention of Qwen3: Llama's with norms of the heads of q and k."""
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

    own.sliding_window, own.use_sliding_window = None, False
    own.layer_types = ["full_attention"] * own.num_hidden_layers
    return Qwen3Attention(own, slot)


def build_layer(config, index, slot):
    """slot: the place of its keys and values in the cache."""
    own = config.of_layer(index)
    layer = LlamaDecoderLayer(own, slot)
    if getattr(config, "qk_norm", False):
        layer.self_attn = normalised_attention(own, slot)
    for name in getattr(config, "linear_biases", None) or []:
        block = layer.self_attn if hasattr(layer.self_attn, name) else layer.mlp
        linear = getattr(block, name)
        linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
    # what may be changed later, as the attention's implementation, is the model's
    layer.self_attn.config = layer.mlp.config = config
    if "attention" in own.skip:
        layer.self_attn, layer.input_layernorm = NoAttention(), nn.Identity()
    if "mlp" in own.skip:
        layer.mlp, layer.post_attention_layernorm = NoMLP(), nn.Identity()
    return layer


class LaminaPreTrainedModel(LlamaPreTrainedModel):
    config_class = LaminaConfig
    config: LaminaConfig


class LaminaModel(LaminaPreTrainedModel, LlamaModel):
    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)     # not LlamaModel's equal layers
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size,
                                         self.padding_idx)
        # A cache tells its length by its first layer, which therefore must be
        # one with attention: only such layers are counted.
        layers, slot = [], 0
        for index in range(config.num_hidden_layers):
            layers.append(build_layer(config, index, slot))
            slot += not isinstance(layers[-1].self_attn, NoAttention)
        self.layers = nn.ModuleList(layers)
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class LaminaForCausalLM(LaminaPreTrainedModel, LlamaForCausalLM):
    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)
        self.model = LaminaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _get_static_cache_init_shape(self):
        """A static cache takes its shapes from the first keys, layer by layer."""
        return None


# save_pretrained() takes this file along
LaminaConfig.register_for_auto_class()
LaminaModel.register_for_auto_class("AutoModel")
LaminaForCausalLM.register_for_auto_class("AutoModelForCausalLM")

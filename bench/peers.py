# SPDX-License-Identifier: Apache-2.0
"""What transformers (hf) or llama.cpp (gguf) make of an exported model:
peers.py hf|gguf MODEL TEXT WINDOWS LAMINA.  Perplexity of the first windows of
2048 tokens of TEXT, without BOS, of the peer's own token ids: exp of the mean
loss of positions 0..2046, each predicting the next token, computed in double
from logits of an f32 forward pass.  The ids are compared with those of
`LAMINA tokenize`, on the text's beginning and on strings that are hard."""
import ctypes
import json
import math
import subprocess
import sys

import numpy as np

WINDOW, STEP = 2048, 512        # logits of all of a window would fill 400 MB
THREADS = 1                     # more only spin on a busy machine
PREFIX = 100000                 # bytes of TEXT that fit into one argument
STRINGS = [
    "Hello, world!", " leading and trailing ", "tabs\tand\n\nnew\r\nlines   \n ",
    "1234567890 3.14159 1,000,000 x2y34", "don't we'll I'M they'VE", "CamelCase_snake-kebab",
    "na\u00efve caf\u00e9 e\u0301 \u00df", "\u4f60\u597d\u4e16\u754c \u3053\u3093\u306b\u3061\u306f",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u0645\u0438\u0440 \u0661\u0662\u0663 \u00bd \u00b2",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2026\u00a0\u3000x", "for(i=0;i<10;++i){a[i]*=2;}",
    "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|><|im_start|>", "<|im_start", "a<|im_end|> b",
]


def loss_sum(logits, targets):
    logits = logits.astype(np.float64)
    high = logits.max(axis=1)
    total = np.log(np.exp(logits - high[:, None]).sum(axis=1)) + high
    return float((total - logits[np.arange(len(targets)), targets]).sum())


def rows_loss(rows, window, at):
    """Loss of the rows of positions at, at + 1, ...; the last one has no target."""
    targets = window[at + 1:at + 1 + len(rows)]
    return sum(loss_sum(rows[i:min(i + 128, len(targets))], targets[i:i + 128])
               for i in range(0, len(targets), 128))


class Transformers:
    def __init__(self, path):
        import torch
        import transformers
        torch.set_num_threads(THREADS)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.torch, self.version = torch, transformers.__version__
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True)
        self.model, loading = model[0].eval(), model[1]
        left = {k: sorted(v) for k, v in loading.items() if v}
        if left:
            sys.exit(f"peers.py: transformers did not take the file as it is: {left}")

    def shape(self):
        c = self.model.config
        return (f"{c.num_hidden_layers} layers; ffn {c.intermediate_size}; "
                f"kv {c.num_key_value_heads}; heads {c.num_attention_heads}")

    def ids(self, text, special):
        return self.tokenizer(text, add_special_tokens=False,
                              split_special_tokens=not special)["input_ids"]

    def loss(self, window):
        with self.torch.no_grad():
            hidden = self.model.model(self.torch.tensor([window])).last_hidden_state[0]
            return sum(rows_loss(self.model.lm_head(hidden[at:at + STEP]).numpy(), window, at)
                       for at in range(0, WINDOW, STEP))


class LlamaCpp:
    def __init__(self, path):
        import llama_cpp
        self.lib, self.path, self.version = llama_cpp, path, llama_cpp.__version__
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"peers.py: llama.cpp does not load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = WINDOW, STEP, STEP
        params.n_threads = params.n_threads_batch = THREADS
        params.type_k = params.type_v = 0                   # the cache in F32
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.batch = llama_cpp.llama_batch_init(STEP, 0, 1)

    def shape(self):
        import gguf
        fields = gguf.GGUFReader(self.path).fields
        arch = fields["general.architecture"].contents()

        def layers(key):
            v = fields[f"{arch}.{key}"].contents()
            return " ".join(map(str, v)) if isinstance(v, list) else str(v)
        return (f"{arch}; {layers('block_count')} layers; ffn {layers('feed_forward_length')}; "
                f"kv {layers('attention.head_count_kv')}; heads {layers('attention.head_count')}")

    def ids(self, text, special):
        data = text.encode()
        out = (ctypes.c_int32 * (len(data) + 8))()
        n = self.lib.llama_tokenize(self.vocab, data, len(data), out, len(out), False, special)
        return list(out[:n])

    def loss(self, window):
        lib, total = self.lib, 0.0
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        for at in range(0, WINDOW, STEP):
            self.batch.n_tokens = STEP
            for i in range(STEP):
                self.batch.token[i] = window[at + i]
                self.batch.pos[i] = at + i
                self.batch.seq_id[i][0] = 0
                self.batch.n_seq_id[i] = 1
                self.batch.logits[i] = True
            if lib.llama_decode(self.context, self.batch):
                sys.exit("peers.py: llama_decode failed")
            rows = np.ctypeslib.as_array(lib.llama_get_logits(self.context),
                                         shape=(STEP, self.n_vocab))
            total += rows_loss(rows, window, at)
        return total


def differences(peer, lamina, model, text):
    """Strings whose ids differ from ours, as plain text and with specials."""
    cases = [(s, special) for s in STRINGS for special in (False, True)]
    bad = []
    for s, special in cases + [(text, False)]:
        command = [lamina, "tokenize", model] + ["--special"] * special + ["--json", "--", s]
        ours = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        theirs = peer.ids(s, special)
        if ours != theirs:
            bad.append(f"{s[:40]!r} special={special}: {ours[:12]} {theirs[:12]}")
    return bad


def main():
    kind, path, text, windows, lamina = sys.argv[1:]
    with open(text, encoding="utf-8") as f:
        text = f.read()
    peer = (Transformers if kind == "hf" else LlamaCpp)(path)
    ids = peer.ids(text, False)
    total, windows = 0.0, int(windows)
    for w in range(windows):
        total += peer.loss(ids[w * WINDOW:(w + 1) * WINDOW])
    print(f"ppl = {math.exp(total / (windows * (WINDOW - 1))):.9g}")
    prefix = text.encode()[:PREFIX].decode(errors="ignore")
    bad = differences(peer, lamina, path, prefix)
    print(f"ids_of_strings = {'differ: ' + '; '.join(bad) if bad else 'equal'}")
    print(f"shape = {peer.shape()}")
    print(f"peer = {type(peer).__name__} {peer.version}")


main()

# SPDX-License-Identifier: Apache-2.0
"""What transformers (hf) or llama.cpp (gguf) make of an exported model, on one
thread: export_peer.py ppl|speed hf|gguf MODEL TEXT WINDOWS.WINDOW LAMINA.

ppl: perplexity of the first WINDOWS of WINDOW tokens of TEXT, without BOS, of the
peer's own token ids: exp of the mean loss of all positions but the last, each predicting
the next token, computed in double from the peer's logits.  The ids are compared
with those of `LAMINA tokenize`, on the text's beginning and on strings that are
hard; 32 greedy tokens, made with the cache, with those of `LAMINA generate`.
speed: tokens per second of a prefill of 512, and of 64 steps behind 512.

transformers computes in f32, llama.cpp in the file's number format; its cache
is f32."""
import ctypes
import json
import math
import statistics
import subprocess
import sys
import time

import numpy as np

STEP = 512                      # logits of 2048 would fill 400 MB
THREADS = 1                     # more only spin on a busy machine
PREFIX = 100000                 # bytes of TEXT that fit into one argument
PREFILL, STEPS, RUNS = 512, 64, 2
PROMPT, GREEDY = "The most important thing about", 32
STRINGS = [
    "Hello, world!", " leading and trailing ", "tabs\tand\n\nnew\r\nlines   \n ",
    "1234567890 3.14159 1,000,000 x2y34", "don't we'll I'M they'VE",
    "CamelCase_snake-kebab",
    "na\u00efve caf\u00e9 e\u0301 \u00df",
    "\u4f60\u597d\u4e16\u754c \u3053\u3093\u306b\u3061\u306f",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u0645\u0438\u0440 \u0661\u0662\u0663 "
    "\u00bd \u00b2",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2026\u00a0\u3000x",
    "for(i=0;i<10;++i){a[i]*=2;}",
    "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|><|im_start|>", "<|im_start",
    "a<|im_end|> b",
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
    def __init__(self, path, n_ctx):
        import torch
        import transformers
        torch.set_num_threads(THREADS)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.torch, self.version = torch, transformers.__version__
        # the only code in the folder is the modelling file that Lamina wrote
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(
            path, trust_remote_code=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True, trust_remote_code=True)
        self.model, loading = model[0].eval(), model[1]
        left = {k: sorted(v) for k, v in loading.items() if v}
        if left:
            sys.exit("export_peer.py: transformers did not take the file as it is: "
                     f"{left}")

    def shape(self):
        c = self.model.config
        return f"{type(self.model).__name__}; {c.num_hidden_layers} layers"

    def ids(self, text, special):
        return self.tokenizer(text, add_special_tokens=False,
                              split_special_tokens=not special)["input_ids"]

    def loss(self, window):
        with self.torch.no_grad():
            hidden = self.model.model(self.torch.tensor([window])).last_hidden_state[0]
            return sum(rows_loss(self.model.lm_head(hidden[at:at + STEP]).numpy(),
                                 window, at)
                       for at in range(0, len(window), STEP))


    def greedy(self, ids, n):
        with self.torch.no_grad():
            out = self.model.generate(self.torch.tensor([ids]), max_new_tokens=n,
                                      do_sample=False, use_cache=True)
        return out[0, len(ids):].tolist()

    def seconds(self, ids):
        torch, model = self.torch, self.model
        with torch.no_grad():
            start = time.monotonic()
            cache = model(torch.tensor([ids[:PREFILL]]), use_cache=True,
                          logits_to_keep=1).past_key_values
            middle = time.monotonic()
            for i in range(STEPS):
                model(torch.tensor([[ids[PREFILL + i]]]), past_key_values=cache,
                      use_cache=True)
            return middle - start, time.monotonic() - middle


class LlamaCpp:
    def __init__(self, path, n_ctx):
        import llama_cpp
        self.lib, self.path, self.version = llama_cpp, path, llama_cpp.__version__
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"export_peer.py: llama.cpp does not load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = (
            max(n_ctx, PREFILL + STEPS), STEP, STEP)
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
        return (f"{arch}; {layers('block_count')} layers; "
                f"ffn {layers('feed_forward_length')}; "
                f"kv {layers('attention.head_count_kv')}; "
                f"heads {layers('attention.head_count')}")

    def ids(self, text, special):
        data = text.encode()
        out = (ctypes.c_int32 * (len(data) + 8))()
        n = self.lib.llama_tokenize(self.vocab, data, len(data), out, len(out), False,
                                    special)
        return list(out[:n])

    def feed(self, tokens, position, all_logits):
        lib, batch = self.lib, self.batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position + i
            batch.seq_id[i][0] = 0
            batch.n_seq_id[i] = 1
            batch.logits[i] = all_logits or i == len(tokens) - 1
        if lib.llama_decode(self.context, batch):
            sys.exit("export_peer.py: llama_decode failed")
        return np.ctypeslib.as_array(
            lib.llama_get_logits(self.context),
            shape=(len(tokens) if all_logits else 1, self.n_vocab))

    def forget(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def loss(self, window):
        self.forget()
        return sum(rows_loss(self.feed(window[at:at + STEP], at, True), window, at)
                   for at in range(0, len(window), STEP))

    def greedy(self, ids, n):
        self.forget()
        out, row = [], self.feed(ids, 0, False)
        while True:
            out.append(int(row[0].argmax()))
            if len(out) == n or self.lib.llama_vocab_is_eog(self.vocab, out[-1]):
                return out
            row = self.feed(out[-1:], len(ids) + len(out) - 1, False)

    def seconds(self, ids):
        self.forget()
        start = time.monotonic()
        self.feed(ids[:PREFILL], 0, False)
        middle = time.monotonic()
        for i in range(STEPS):
            self.feed([ids[PREFILL + i]], PREFILL + i, False)
        return middle - start, time.monotonic() - middle


def differences(peer, lamina, model, text):
    """Strings whose ids differ from ours, as plain text and with specials."""
    cases = [(s, special) for s in STRINGS for special in (False, True)]
    bad = []
    for s, special in cases + [(text, False)]:
        command = ([lamina, "tokenize", model] + ["--special"] * special
                   + ["--json", "--", s])
        ours = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        theirs = peer.ids(s, special)
        if ours != theirs:
            bad.append(f"{s[:40]!r} special={special}: {ours[:12]} {theirs[:12]}")
    return bad


def report_ppl(peer, ids, text, windows, window, lamina, model):
    total = 0.0
    for w in range(windows):
        total += peer.loss(ids[w * window:(w + 1) * window])
    print(f"ppl = {math.exp(total / (windows * (window - 1))):.9g}")
    prefix = text.encode()[:PREFIX].decode(errors="ignore")
    bad = differences(peer, lamina, model, prefix)
    print(f"ids_of_strings = {'differ: ' + '; '.join(bad) if bad else 'equal'}")
    prompt = peer.ids(PROMPT, False)
    theirs = peer.greedy(prompt, GREEDY)
    command = [lamina, "generate", model, "--ids", ",".join(map(str, prompt)), "--tokens",
               str(GREEDY), "--json", "--threads", str(THREADS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    ours = json.loads(done.stdout)["new_ids"]
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b),
                min(len(ours), len(theirs)))
    # the one may keep what ends the text, the other not
    equal = same >= max(len(ours), len(theirs)) - 1
    print(f"greedy = {'equal' if equal else f'differ at token {same}'}")
    print(f"shape = {peer.shape()}")
    print(f"peer = {type(peer).__name__} {peer.version}")


def report_speed(peer, ids):
    peer.seconds(ids)                                       # warms up
    runs = [peer.seconds(ids) for _ in range(RUNS)]
    print(f"prefill = {PREFILL / statistics.median(r[0] for r in runs):.6g}")
    print(f"decode = {STEPS / statistics.median(r[1] for r in runs):.6g}")


def main():
    what, kind, path, text, windows, lamina = sys.argv[1:]
    windows, window = map(int, windows.split("."))
    with open(text, encoding="utf-8") as f:
        text = f.read()
    peer = (Transformers if kind == "hf" else LlamaCpp)(path, window)
    if what == "speed":
        report_speed(peer, peer.ids(text[:8 * (PREFILL + STEPS)], False))
    else:
        report_ppl(peer, peer.ids(text, False), text, windows, window, lamina, path)


main()

# SPDX-License-Identifier: Apache-2.0
"""candidates_whittle.py HF_FOLDER IDS WINDOW WINDOWS REPORT COUNT

What whittle takes to evaluate candidates of a study of ours: sub-networks of the same
widths (KV groups and FFN channels of each layer), by its own _objective (validation loss
and parameters) on the same windows of tokens, float32 (its default on a CPU), one thread.
Prints the processor seconds of each; loading and converting are not timed.

HF_FOLDER is written by `lamina convert`; litgpt's checkpoint is made in it.  The losses
of the dense model must agree with ours; those of sub-networks need not: whittle takes the
first channels and groups, ours the most important ones, repaired."""
import json
import sys
import time
from pathlib import Path

import lightning
import torch
from litgpt.args import EvalArgs
from litgpt.config import Config
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
from litgpt.utils import load_checkpoint
from whittle import __version__ as version
from whittle.models.gpt import GPT
from whittle.search_sub_networks import _objective


def main():
    folder, window, windows, count = (Path(sys.argv[1]), int(sys.argv[3]),
                                      int(sys.argv[4]), int(sys.argv[6]))
    ids = [int(i) for i in open(sys.argv[2]).read().split()][:window * windows]
    rows = torch.tensor(ids).view(-1, 1, window)
    trials = [t for t in json.load(open(sys.argv[5]))["trials"] if t["status"] == "ok"]
    dense, trials = trials[0], trials[1:]
    picked = [trials[len(trials) * i // count] for i in range(count)]

    torch.set_num_threads(1)
    config = Config.from_name("SmolLM2-135M-Instruct")
    if not (folder / "lit_model.pth").exists():
        convert_hf_checkpoint(checkpoint_dir=folder, model_name=config.name)
    fabric = lightning.Fabric(devices=1, accelerator="cpu", precision="32-true")
    with fabric.init_module(empty_init=False):
        model = GPT(config)
    model = fabric.setup(model)
    load_checkpoint(fabric, model, folder / "lit_model.pth")
    model.max_seq_length = window - 1           # of each window all but the first token

    # What its search hands to _objective names sizes for the whole model; shapes that
    # differ by layer are a matter of set_sub_network.
    def select(shape):
        model.set_sub_network(
            sub_network_n_embd=config.n_embd, sub_network_n_layers=len(shape),
            sub_network_num_heads=[s[0] for s in shape],
            sub_network_query_groups=[s[1] for s in shape],
            sub_network_intermediate_size=[s[2] for s in shape])

    model.select_sub_network = select
    args = dict(fabric=fabric, model=model, val_dataloader=rows,
                eval=EvalArgs(max_iters=windows), verbose=False, objective_1="val_loss")
    loss, _ = _objective(dense["shape"], **args)
    print(f"whittle.version = {version}")
    print(f"whittle.dense_loss = {loss:.5f}")
    for t in picked:
        start = time.process_time()
        loss, parameters = _objective(t["shape"], **args)
        print(f"whittle.trial.{t['id']} = {time.process_time() - start:.3f} s, "
              f"loss {loss:.3f}, {parameters} parameters", flush=True)


main()

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The modelling file that goes with uneven folders: Python compiles it, and, where
# PEERS_PYTHON names a Python with torch and transformers, they read an uneven
# folder through it and make of it what we make of it.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"

compiles() { PYTHONDONTWRITEBYTECODE=1 python3 -c 'import ast, sys
ast.parse(open(sys.argv[1]).read())' "$LAMINA_SRCDIR/plugins/formats/hf_modeling.py"; }
if command -v python3 >/dev/null; then
    ok "Python reads the modelling file" compiles
else
    skip "Python reads the modelling file" "no python3"
fi

same_tokens()
{
    small_pipeline >small.cfg
    lamina run small.cfg --set search.budget=12 && show && test "$rc" = 0 || return 1
    exits 0 export r smallest hf --format hf --dtype f32 || return 1
    "$PEERS_PYTHON" - >theirs <<'PY'
import torch, transformers
torch.set_num_threads(1)
m = transformers.AutoModelForCausalLM.from_pretrained("hf", trust_remote_code=True)
ids = m.generate(torch.tensor([[5, 6, 7, 8]]), max_new_tokens=24, do_sample=False,
                 eos_token_id=None, pad_token_id=0)
print(type(m).__name__, ids[0, 4:].tolist())
PY
    lamina generate hf --ids 5,6,7,8 --tokens 24 --ignore-eos --json && test "$rc" = 0 ||
        return 1
    echo "LaminaForCausalLM $("$PEERS_PYTHON" -c 'import json, sys
print(json.load(sys.stdin)["new_ids"])' <"$tmp/out")" >ours
    cmp ours theirs
}
if test -n "${PEERS_PYTHON:-}"; then
    ok "transformers continues an uneven folder as we do" same_tokens
else
    skip "transformers continues an uneven folder as we do" "PEERS_PYTHON is not set"
fi
finish

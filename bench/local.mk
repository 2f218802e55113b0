# SPDX-License-Identifier: Apache-2.0
# Measurements: scripts to be run from a built tree, see doc/benchmarks.md.
EXTRA_PROGRAMS += %D%/engine %D%/peak %D%/big_model %D%/propose
bench_engine_SOURCES = %D%/engine.c %D%/rates.c %D%/rates.h
bench_engine_LDADD = liblamina-core.la $(LAMINA_LIBS)
EXTRA_PROGRAMS += %D%/repairs
bench_repairs_SOURCES = %D%/repairs.c
bench_repairs_LDADD = liblamina-core.la $(LAMINA_LIBS)
CLEANFILES += %D%/repairs
bench_peak_SOURCES = %D%/peak.c
bench_peak_LDADD =
bench_propose_SOURCES = %D%/propose.c
bench_propose_LDADD = liblamina-core.la $(LAMINA_LIBS)
CLEANFILES += %D%/engine %D%/peak %D%/big_model %D%/propose
bench_big_model_SOURCES = %D%/big_model.c
bench_big_model_LDADD =
EXTRA_DIST += %D%/common.sh %D%/quality %D%/quality.cfg %D%/quality_texts.cfg %D%/rows.py \
    %D%/rows.sh %D%/methods %D%/methods.cfg %D%/methods_texts.cfg \
    %D%/methods_reference.txt %D%/repair %D%/search \
    %D%/search.cfg %D%/larger %D%/larger.cfg %D%/memory.cfg %D%/export %D%/export.cfg %D%/export_peer.py \
    %D%/hypervolume.py %D%/race %D%/race.py %D%/race_replay.py %D%/candidates \
    %D%/candidates_whittle.py %D%/speed %D%/speed.cfg %D%/speed_torch.py \
    %D%/training-free %D%/training_free.py %D%/results %D%/results.py \
    %D%/speed_llama.py %D%/fidelity %D%/fidelity.py %D%/load %D%/load_llama.py \
    %D%/strategies %D%/strategies.py %D%/strategies_peers.py %D%/space.cfg %D%/space.py \
    %D%/space.csv %D%/profile %D%/profile.cfg %D%/profile.py

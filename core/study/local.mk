# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += %D%/pareto.h %D%/store.h %D%/evaluate.h
liblamina_core_la_SOURCES += %D%/pareto.c
liblamina_core_la_SOURCES += %D%/store.c
liblamina_core_la_SOURCES += %D%/judging.h %D%/evaluation.c %D%/evaluate.c
liblamina_core_la_SOURCES += %D%/evaluate_stream.c %D%/sample.c %D%/batch.h \
	%D%/judge.c %D%/subject.c %D%/timing.c %D%/clocked.c %D%/offer.c
liblamina_core_la_SOURCES += %D%/reduce.c
liblamina_core_la_SOURCES += %D%/race.h %D%/race.c
liblamina_core_la_SOURCES += %D%/significance.h %D%/significance.c
liblamina_core_la_SOURCES += %D%/overlap.h %D%/overlap.c

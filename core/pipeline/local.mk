# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += %D%/run.c %D%/run.h %D%/host.c %D%/host.h \
	%D%/stage.c %D%/stage.h %D%/pipeline.c %D%/pipeline.h %D%/confirm.c \
	%D%/negotiate.c %D%/negotiate.h %D%/bench.c %D%/session.c %D%/session.h \
	%D%/view.c %D%/timed.c %D%/view_load.c %D%/view.h %D%/search.c %D%/search.h %D%/racing.c %D%/racing.h %D%/price.c %D%/price.h \
	%D%/finish.c %D%/exported.c %D%/generate.c %D%/finish.h %D%/job.c %D%/guards.c %D%/guards.h %D%/estimate.h %D%/estimate.c \
	%D%/speed.c %D%/sketch.c \
	%D%/shrink.c %D%/job.h %D%/convert.c %D%/convert.h \
	%D%/commands.c %D%/commands.h %D%/quantize.c %D%/quantize.h \
	%D%/refine.c %D%/refine.h %D%/device.c %D%/device.h \
	%D%/profile.c %D%/profile.h %D%/predict.c %D%/inputs.c
liblamina_core_la_SOURCES += %D%/sweep.h %D%/sweep.c %D%/sweep_run.c %D%/sweep_table.c \
	%D%/sweep_out.c %D%/sweep_html.c
liblamina_core_la_SOURCES += %D%/worker.c %D%/worker.h %D%/worker_message.c \
	%D%/worker_message.h %D%/crew.c %D%/crew.h %D%/crew_unit.c %D%/crew_unit.h
liblamina_core_la_SOURCES += %D%/selftest.c %D%/selftest.h %D%/selftest_kit.h \
	%D%/selftest_options.c %D%/selftest_options.h %D%/selftest_model.c \
	%D%/selftest_search.c %D%/selftest_pruner.c %D%/selftest_scorer.c \
	%D%/selftest_repair.c %D%/selftest_evaluator.c %D%/selftest_reporter.c \
	%D%/selftest_format.c %D%/selftest_backend.c %D%/selftest_quant.c

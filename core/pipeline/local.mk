# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += %D%/run.c %D%/run.h %D%/host.c %D%/host.h \
	%D%/stage.c %D%/stage.h %D%/pipeline.c %D%/pipeline.h \
	%D%/negotiate.c %D%/negotiate.h %D%/bench.c %D%/session.c %D%/session.h \
	%D%/view.c %D%/view_load.c %D%/view.h %D%/search.c %D%/search.h \
	%D%/finish.c %D%/exported.c %D%/generate.c %D%/finish.h %D%/job.c %D%/estimate.c \
	%D%/shrink.c %D%/job.h %D%/convert.c %D%/convert.h

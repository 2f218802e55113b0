# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += \
    %D%/plan.h %D%/plan.c %D%/plan_text.c %D%/count.c \
    %D%/candidate.h %D%/candidate.c %D%/workshop.c %D%/spill.c %D%/part.h %D%/build.c %D%/apply.c \
    %D%/formats.c %D%/narrow.c %D%/quantize.c %D%/refine.c

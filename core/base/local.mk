# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += \
    %D%/child.h %D%/child.c \
    %D%/cpufreq.h %D%/cpufreq.c \
    %D%/err.h %D%/err.c \
    %D%/file.h %D%/file.c %D%/folder.c \
    %D%/hash.h %D%/hash.c \
    %D%/json.h %D%/json.c %D%/json_write.c \
    %D%/linalg.h %D%/linalg.c \
    %D%/log.h %D%/log.c \
    %D%/mem.h %D%/mem.c \
    %D%/pool.h %D%/pool.c \
    %D%/process.h %D%/process.c \
    %D%/rng.h %D%/rng.c \
    %D%/str.h %D%/str.c

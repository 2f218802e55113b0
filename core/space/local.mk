# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += %D%/space.h %D%/space.c %D%/genome.c

# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += %D%/loader.h %D%/loader_check.h
liblamina_core_la_SOURCES += %D%/loader.c %D%/loader_check.c

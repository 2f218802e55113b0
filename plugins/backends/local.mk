# SPDX-License-Identifier: Apache-2.0
backendsdir = $(plugindir)/backends
backends_LTLIBRARIES =

backends_LTLIBRARIES += %D%/cpu.la
plugins_backends_cpu_la_SOURCES = %D%/cpu.c %D%/cpu.h %D%/cpu_kernels.c %D%/cpu_ops.c \
    %D%/cpu_attention.c %D%/cpu_codes.c %D%/cpu_codes.h %D%/cpu_gemm.c %D%/cpu_gemm.h \
    %D%/cpu_head.c %D%/cpu_product.c \
    %D%/cpu_lanes.h %D%/cpu_rows.h %D%/cpu_tile.h %D%/cpu_vector.h %D%/machine.h %D%/program.h
plugins_backends_cpu_la_LDFLAGS = $(PLUGIN_LINK)
plugins_backends_cpu_la_LIBADD = -lm

backends_LTLIBRARIES += %D%/reference.la
plugins_backends_reference_la_SOURCES = %D%/reference.c %D%/machine.h %D%/program.h
plugins_backends_reference_la_LDFLAGS = $(PLUGIN_LINK)
plugins_backends_reference_la_LIBADD = -lm

# SPDX-License-Identifier: Apache-2.0
quantdir = $(plugindir)/quant
quant_LTLIBRARIES =

quant_LTLIBRARIES += %D%/int8.la
plugins_quant_int8_la_SOURCES = %D%/int8.c %D%/quant.h
plugins_quant_int8_la_LDFLAGS = $(PLUGIN_LINK)

quant_LTLIBRARIES += %D%/int4.la
plugins_quant_int4_la_SOURCES = %D%/int4.c %D%/quant.h
plugins_quant_int4_la_LDFLAGS = $(PLUGIN_LINK)

# SPDX-License-Identifier: Apache-2.0
evaluatorsdir = $(plugindir)/evaluators
evaluators_LTLIBRARIES =

evaluators_LTLIBRARIES += %D%/perplexity.la
plugins_evaluators_perplexity_la_SOURCES = %D%/perplexity.c
plugins_evaluators_perplexity_la_LDFLAGS = $(PLUGIN_LINK)

evaluators_LTLIBRARIES += %D%/kl.la
plugins_evaluators_kl_la_SOURCES = %D%/kl.c
plugins_evaluators_kl_la_LDFLAGS = $(PLUGIN_LINK)

evaluators_LTLIBRARIES += %D%/size.la
plugins_evaluators_size_la_SOURCES = %D%/size.c
plugins_evaluators_size_la_LDFLAGS = $(PLUGIN_LINK)

evaluators_LTLIBRARIES += %D%/macs.la
plugins_evaluators_macs_la_SOURCES = %D%/macs.c
plugins_evaluators_macs_la_LDFLAGS = $(PLUGIN_LINK)

evaluators_LTLIBRARIES += %D%/latency.la
plugins_evaluators_latency_la_SOURCES = %D%/latency.c
plugins_evaluators_latency_la_LDFLAGS = $(PLUGIN_LINK)

evaluators_LTLIBRARIES += %D%/command.la
plugins_evaluators_command_la_SOURCES = %D%/command.c
plugins_evaluators_command_la_LDFLAGS = $(PLUGIN_LINK)

evaluators_LTLIBRARIES += %D%/memory.la
plugins_evaluators_memory_la_SOURCES = %D%/memory.c
plugins_evaluators_memory_la_LDFLAGS = $(PLUGIN_LINK)

evaluators_LTLIBRARIES += %D%/latency_table.la
plugins_evaluators_latency_table_la_SOURCES = %D%/latency_table.c %D%/table.h %D%/table.c
plugins_evaluators_latency_table_la_LDFLAGS = $(PLUGIN_LINK)

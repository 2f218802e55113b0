# SPDX-License-Identifier: Apache-2.0
searchdir = $(plugindir)/search
search_LTLIBRARIES =

search_LTLIBRARIES += %D%/random.la
plugins_search_random_la_SOURCES = %D%/random.c
plugins_search_random_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/chain.la
plugins_search_chain_la_SOURCES = %D%/chain.c
plugins_search_chain_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/nsga2.la
plugins_search_nsga2_la_SOURCES = %D%/nsga2.c %D%/nsga2.h %D%/nsga2_vary.c
plugins_search_nsga2_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/lagrangian.la
plugins_search_lagrangian_la_SOURCES = %D%/lagrangian.c %D%/lagrangian.h \
    %D%/lagrangian_levels.c %D%/knapsack.c %D%/knapsack.h
plugins_search_lagrangian_la_LDFLAGS = $(PLUGIN_LINK)

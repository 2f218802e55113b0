# SPDX-License-Identifier: Apache-2.0
repairdir = $(plugindir)/repair
repair_LTLIBRARIES =

repair_LTLIBRARIES += %D%/none.la
plugins_repair_none_la_SOURCES = %D%/none.c
plugins_repair_none_la_LDFLAGS = $(PLUGIN_LINK)

repair_LTLIBRARIES += %D%/least_squares.la
plugins_repair_least_squares_la_SOURCES = %D%/least_squares.c %D%/ridge.h
plugins_repair_least_squares_la_LDFLAGS = $(PLUGIN_LINK)

repair_LTLIBRARIES += %D%/bias.la
plugins_repair_bias_la_SOURCES = %D%/bias.c
plugins_repair_bias_la_LDFLAGS = $(PLUGIN_LINK)

repair_LTLIBRARIES += %D%/admm.la
plugins_repair_admm_la_SOURCES = %D%/admm.c %D%/ridge.h
plugins_repair_admm_la_LDFLAGS = $(PLUGIN_LINK)

repair_LTLIBRARIES += %D%/sequential.la
plugins_repair_sequential_la_SOURCES = %D%/sequential.c %D%/ridge.h
plugins_repair_sequential_la_LDFLAGS = $(PLUGIN_LINK)

repair_LTLIBRARIES += %D%/pca.la
plugins_repair_pca_la_SOURCES = %D%/pca.c
plugins_repair_pca_la_LDFLAGS = $(PLUGIN_LINK)

# SPDX-License-Identifier: Apache-2.0
scorersdir = $(plugindir)/scorers
scorers_LTLIBRARIES =

scorers_LTLIBRARIES += %D%/magnitude.la
plugins_scorers_magnitude_la_SOURCES = %D%/magnitude.c
plugins_scorers_magnitude_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/wanda.la
plugins_scorers_wanda_la_SOURCES = %D%/wanda.c
plugins_scorers_wanda_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/block_influence.la
plugins_scorers_block_influence_la_SOURCES = %D%/block_influence.c
plugins_scorers_block_influence_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/obs.la
plugins_scorers_obs_la_SOURCES = %D%/obs.c
plugins_scorers_obs_la_LDFLAGS = $(PLUGIN_LINK)

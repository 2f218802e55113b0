# SPDX-License-Identifier: Apache-2.0
scorersdir = $(plugindir)/scorers
scorers_LTLIBRARIES =

scorers_LTLIBRARIES += %D%/magnitude.la
plugins_scorers_magnitude_la_SOURCES = %D%/columns.h %D%/stream.h %D%/magnitude.c
plugins_scorers_magnitude_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/wanda.la
plugins_scorers_wanda_la_SOURCES = %D%/columns.h %D%/wanda.c
plugins_scorers_wanda_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/block_influence.la
plugins_scorers_block_influence_la_SOURCES = %D%/block_influence.c
plugins_scorers_block_influence_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/obs.la
plugins_scorers_obs_la_SOURCES = %D%/hessian.h %D%/obs.c
plugins_scorers_obs_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/activation.la
plugins_scorers_activation_la_SOURCES = %D%/columns.h %D%/stream.h %D%/activation.c
plugins_scorers_activation_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/flap.la
plugins_scorers_flap_la_SOURCES = %D%/columns.h %D%/flap.c
plugins_scorers_flap_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/cka.la
plugins_scorers_cka_la_SOURCES = %D%/cka.c
plugins_scorers_cka_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/random.la
plugins_scorers_random_la_SOURCES = %D%/random.c
plugins_scorers_random_la_LDFLAGS = $(PLUGIN_LINK)

scorers_LTLIBRARIES += %D%/inverse_hessian.la
plugins_scorers_inverse_hessian_la_SOURCES = %D%/hessian.h %D%/inverse_hessian.c
plugins_scorers_inverse_hessian_la_LDFLAGS = $(PLUGIN_LINK)

# SPDX-License-Identifier: Apache-2.0
prunersdir = $(plugindir)/pruners
pruners_LTLIBRARIES =

pruners_LTLIBRARIES += %D%/layers.la
plugins_pruners_layers_la_SOURCES = %D%/layers.c
plugins_pruners_layers_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/blocks.la
plugins_pruners_blocks_la_SOURCES = %D%/blocks.c
plugins_pruners_blocks_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/kv_groups.la
plugins_pruners_kv_groups_la_SOURCES = %D%/kv_groups.c
plugins_pruners_kv_groups_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/ffn.la
plugins_pruners_ffn_la_SOURCES = %D%/ffn.c
plugins_pruners_ffn_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/hidden.la
plugins_pruners_hidden_la_SOURCES = %D%/hidden.c
plugins_pruners_hidden_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/heads.la
plugins_pruners_heads_la_SOURCES = %D%/heads.c
plugins_pruners_heads_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/depth.la
plugins_pruners_depth_la_SOURCES = %D%/depth.c
plugins_pruners_depth_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/mask.la
plugins_pruners_mask_la_SOURCES = %D%/mask.c %D%/members.h
plugins_pruners_mask_la_LDFLAGS = $(PLUGIN_LINK)

pruners_LTLIBRARIES += %D%/ranked.la
plugins_pruners_ranked_la_SOURCES = %D%/ranked.c %D%/members.h
plugins_pruners_ranked_la_LDFLAGS = $(PLUGIN_LINK)

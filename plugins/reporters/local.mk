# SPDX-License-Identifier: Apache-2.0
reportersdir = $(plugindir)/reporters
reporters_LTLIBRARIES =

reporters_LTLIBRARIES += %D%/table.la
plugins_reporters_table_la_SOURCES = %D%/text.h %D%/exports.h %D%/predicted.h %D%/table.c
plugins_reporters_table_la_LDFLAGS = $(PLUGIN_LINK)

reporters_LTLIBRARIES += %D%/json.la
plugins_reporters_json_la_SOURCES = %D%/text.h %D%/exports.h %D%/json.c
plugins_reporters_json_la_LDFLAGS = $(PLUGIN_LINK)

reporters_LTLIBRARIES += %D%/html.la
plugins_reporters_html_la_SOURCES = %D%/text.h %D%/exports.h %D%/predicted.h \
    %D%/html.h %D%/html.c %D%/html_page.c \
    %D%/html_plot.c %D%/html_assets.c
plugins_reporters_html_la_LDFLAGS = $(PLUGIN_LINK)

reporters_LTLIBRARIES += %D%/csv.la
plugins_reporters_csv_la_SOURCES = %D%/text.h %D%/csv.c
plugins_reporters_csv_la_LDFLAGS = $(PLUGIN_LINK)

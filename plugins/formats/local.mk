# SPDX-License-Identifier: Apache-2.0
formatsdir = $(plugindir)/formats
formats_LTLIBRARIES =

formats_LTLIBRARIES += %D%/hf.la
plugins_formats_hf_la_SOURCES = %D%/hf.c %D%/hf.h %D%/common.h %D%/hf_config.c \
    %D%/hf_layers.c %D%/hf_pad.c %D%/hf_rope.c %D%/hf_rules.c %D%/hf_tokenizer.c \
    %D%/hf_vocab.c %D%/hf_weights.c %D%/hf_write.c
nodist_plugins_formats_hf_la_SOURCES = %D%/hf_modeling.c
plugins_formats_hf_la_LDFLAGS = $(PLUGIN_LINK)
plugins_formats_hf_la_LIBADD = -lm
EXTRA_DIST += %D%/hf_modeling.py
CLEANFILES += %D%/hf_modeling.c

# A line of Python is a string of C; compilers limit the length of one string.
%D%/hf_modeling.c: %D%/hf_modeling.py
	$(AM_V_GEN)$(MKDIR_P) %D% && { echo 'extern const char *const hf_modeling[];' && \
	    echo 'const char *const hf_modeling[] = {' && \
	    sed 's/[\\"]/\\&/g; s/.*/"&\\n",/' $(srcdir)/%D%/hf_modeling.py && \
	    echo '0 };'; } >$@.part && mv $@.part $@

formats_LTLIBRARIES += %D%/gguf.la
plugins_formats_gguf_la_SOURCES = %D%/gguf.c %D%/gguf.h %D%/common.h %D%/gguf_meta.c \
    %D%/gguf_own.c %D%/gguf_rope.c \
    %D%/gguf_parse.c %D%/gguf_read.c %D%/gguf_vocab.c %D%/gguf_write.c
plugins_formats_gguf_la_LDFLAGS = $(PLUGIN_LINK)
plugins_formats_gguf_la_LIBADD = -lm

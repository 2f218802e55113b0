# SPDX-License-Identifier: Apache-2.0
# Fuzz targets: fuzz_NAME.c with its corpus in corpus/NAME.  They are programs of
# `make check`, which replays the corpora (fuzz_replay.sh); with --enable-fuzzing
# and clang they are libFuzzer programs: `make fuzz TARGET=NAME FUZZ_SECONDS=60`.
if FUZZING
FUZZ_LINK = -fsanitize=fuzzer
fuzz_main =
else
FUZZ_LINK =
fuzz_main = %D%/replay.c
endif
fuzz_programs = %D%/fuzz_config %D%/fuzz_gguf %D%/fuzz_hf_index %D%/fuzz_json \
    %D%/fuzz_options %D%/fuzz_pipeline %D%/fuzz_plan %D%/fuzz_safetensors \
    %D%/fuzz_stats %D%/fuzz_study %D%/fuzz_table %D%/fuzz_tokenizer %D%/fuzz_tokenizer_config \
    %D%/fuzz_tokenizer_json %D%/fuzz_view
EXTRA_PROGRAMS += $(fuzz_programs)
MOSTLYCLEANFILES += $(fuzz_programs)

# The format plugins are linked in, so that the fuzzer sees their branches.
EXTRA_LTLIBRARIES += %D%/libfuzz.la %D%/libhf.la %D%/libgguf.la
MOSTLYCLEANFILES += %D%/libfuzz.la %D%/libhf.la %D%/libgguf.la
tests_fuzz_libfuzz_la_SOURCES = %D%/fuzz.h %D%/fuzz.c $(fuzz_main)
tests_fuzz_libhf_la_SOURCES = %D%/fuzz_model.c %D%/hf_folder.h \
    $(plugins_formats_hf_la_SOURCES)
nodist_tests_fuzz_libhf_la_SOURCES = $(nodist_plugins_formats_hf_la_SOURCES)
tests_fuzz_libgguf_la_SOURCES = %D%/fuzz_model.c $(plugins_formats_gguf_la_SOURCES)

tests_fuzz_fuzz_config_SOURCES = %D%/fuzz_config.c
tests_fuzz_fuzz_config_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_config_LDADD = %D%/libhf.la %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_gguf_SOURCES = %D%/fuzz_gguf.c
tests_fuzz_fuzz_gguf_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_gguf_LDADD = %D%/libgguf.la %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_hf_index_SOURCES = %D%/fuzz_hf_index.c
tests_fuzz_fuzz_hf_index_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_hf_index_LDADD = %D%/libhf.la %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_json_SOURCES = %D%/fuzz_json.c
tests_fuzz_fuzz_json_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_json_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_options_SOURCES = %D%/fuzz_options.c
tests_fuzz_fuzz_options_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_options_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_pipeline_SOURCES = %D%/fuzz_pipeline.c
tests_fuzz_fuzz_pipeline_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_pipeline_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_plan_SOURCES = %D%/fuzz_plan.c
tests_fuzz_fuzz_plan_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_plan_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_safetensors_SOURCES = %D%/fuzz_safetensors.c
tests_fuzz_fuzz_safetensors_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_safetensors_LDADD = %D%/libhf.la %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_stats_SOURCES = %D%/fuzz_stats.c
tests_fuzz_fuzz_stats_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_stats_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_study_SOURCES = %D%/fuzz_study.c
tests_fuzz_fuzz_study_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_study_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_table_SOURCES = %D%/fuzz_table.c plugins/evaluators/table.c
tests_fuzz_fuzz_table_CFLAGS = $(AM_CFLAGS)
tests_fuzz_fuzz_table_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_table_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_tokenizer_SOURCES = %D%/fuzz_tokenizer.c
tests_fuzz_fuzz_tokenizer_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_tokenizer_LDADD = %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_tokenizer_config_SOURCES = %D%/fuzz_tokenizer_config.c
tests_fuzz_fuzz_tokenizer_config_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_tokenizer_config_LDADD = %D%/libhf.la %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_tokenizer_json_SOURCES = %D%/fuzz_tokenizer_json.c
tests_fuzz_fuzz_tokenizer_json_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_tokenizer_json_LDADD = %D%/libhf.la %D%/libfuzz.la $(LDADD)
tests_fuzz_fuzz_view_SOURCES = %D%/fuzz_view.c
tests_fuzz_fuzz_view_LDFLAGS = $(FUZZ_LINK)
tests_fuzz_fuzz_view_LDADD = %D%/libfuzz.la $(LDADD)

shell_tests += %D%/fuzz_replay.sh
%D%/fuzz_replay.log: $(fuzz_programs)
EXTRA_DIST += %D%/base %D%/corpus

# What a fuzzer finds stays in the build folder: new inputs in fuzz-corpus, what
# broke something in fuzz-finds.
FUZZ_SECONDS = 60
if FUZZING
fuzz: tests/fuzz/fuzz_$(TARGET)$(EXEEXT)
	@$(MKDIR_P) fuzz-corpus/$(TARGET) fuzz-finds
	LAMINA_SRCDIR='$(abs_top_srcdir)' tests/fuzz/fuzz_$(TARGET) \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=5 -rss_limit_mb=1024 \
	    -malloc_limit_mb=512 -print_final_stats=1 \
	    -artifact_prefix=fuzz-finds/$(TARGET)- \
	    fuzz-corpus/$(TARGET) $(srcdir)/tests/fuzz/corpus/$(TARGET)
else
fuzz:
	@echo 'configure with --enable-fuzzing CC=clang, or take scripts/fuzz' >&2; exit 1
endif
.PHONY: fuzz

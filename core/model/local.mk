# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += %D%/codec.h %D%/engine.h %D%/model.h %D%/stats.h \
    %D%/tokenizer.h
liblamina_core_la_SOURCES += %D%/codec.c %D%/codec_k.h %D%/codec_k.c \
    %D%/model.c %D%/builder.c %D%/model_impl.h
liblamina_core_la_SOURCES += %D%/tokenizer.c %D%/tokenizer_impl.h \
    %D%/tokenizer_tables.c %D%/bpe.c %D%/unigram.c %D%/pretok.c %D%/nfc.c \
    %D%/nfc_classes.h %D%/nfc_parts.h
liblamina_core_la_SOURCES += %D%/chat.h %D%/chat.c
liblamina_core_la_SOURCES += %D%/segment.h %D%/program.c %D%/engine.c %D%/runner.c \
    %D%/warm.c %D%/breadth.c %D%/teacher.c %D%/decoder.c %D%/stats_file.h \
    %D%/stats_file.c %D%/stats_pass.h %D%/stats_bench.c %D%/stats_add.c \
    %D%/stats.c %D%/sample.c
liblamina_core_la_SOURCES += %D%/align.h %D%/align.c %D%/follow.h %D%/follow.c
liblamina_core_la_SOURCES += %D%/uses.c %D%/profile.h %D%/profile.c %D%/profile_time.c

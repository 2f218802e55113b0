# SPDX-License-Identifier: Apache-2.0
liblamina_core_la_SOURCES += %D%/conf.h %D%/opt.h %D%/lint.h %D%/conf_tree.h \
    %D%/opt_value.h
liblamina_core_la_SOURCES += %D%/lint.c %D%/conf_tree.c %D%/conf.c \
    %D%/conf_expand.c %D%/conf_write.c %D%/conf_vary.c
liblamina_core_la_SOURCES += %D%/opt.c %D%/opt_value.c %D%/opt_help.c \
    %D%/opt_man.c

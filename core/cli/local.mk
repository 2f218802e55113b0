# SPDX-License-Identifier: Apache-2.0
# The program.
bin_PROGRAMS += lamina
lamina_SOURCES = %D%/main.c %D%/flags.c %D%/cli.h %D%/cmd_run.c %D%/cmd_model.c \
	%D%/cmd_study.c %D%/cmd_misc.c %D%/cmd_convert.c
lamina_SOURCES += %D%/cmd_doctor.c %D%/cmd_help.c %D%/help_man.c %D%/help_shell.c
lamina_LDADD = liblamina-core.la $(LAMINA_LIBS)

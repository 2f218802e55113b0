# SPDX-License-Identifier: Apache-2.0
# The program.
bin_PROGRAMS += lamina
lamina_SOURCES = %D%/main.c %D%/flags.c %D%/cli.h %D%/cmd_run.c %D%/cmd_model.c \
	%D%/cmd_study.c %D%/cmd_misc.c %D%/cmd_convert.c
lamina_SOURCES += %D%/cmd_doctor.c %D%/cmd_help.c %D%/help_man.c %D%/help_shell.c
lamina_SOURCES += %D%/cmd_selftest.c %D%/cmd_worker.c %D%/cmd_sweep.c
lamina_SOURCES += %D%/cmd_profile.c %D%/desk.h %D%/desk.c
lamina_LDADD = liblamina-core.la $(LAMINA_LIBS)

# What new-plugin writes, made part of the program.
cli_templates = %D%/templates/search.c.in %D%/templates/pruner.c.in \
	%D%/templates/scorer.c.in %D%/templates/repair.c.in \
	%D%/templates/evaluator.c.in %D%/templates/reporter.c.in \
	%D%/templates/plugin.mk.in %D%/templates/test.sh.in %D%/templates/README.md.in
EXTRA_DIST += $(cli_templates) %D%/templates/embed.awk
lamina_SOURCES += %D%/cmd_new_plugin.c %D%/templates.h
nodist_lamina_SOURCES = %D%/templates.c
CLEANFILES += %D%/templates.c
%D%/templates.c: $(cli_templates) %D%/templates/embed.awk
	$(AM_V_GEN)d=%D%/templates; test -f $$d/embed.awk || d=$(srcdir)/$$d; \
	  $(MKDIR_P) %D% && (cd $$d && $(AWK) -f embed.awk search.c.in pruner.c.in scorer.c.in \
	    repair.c.in evaluator.c.in reporter.c.in plugin.mk.in test.sh.in README.md.in) \
	    >$@.tmp && mv $@.tmp $@

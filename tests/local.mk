# SPDX-License-Identifier: Apache-2.0
# Check programs report each of their tests through TAP (run-check); shell
# tests print TAP themselves with the functions of tap.sh.
LDADD = liblamina-core.la $(LAMINA_LIBS) $(CHECK_LIBS)

shell_tests =
if HAVE_CHECK
check_PROGRAMS += %D%/check_base
tests_check_base_SOURCES = %D%/testing.h %D%/check_base.h %D%/check_base.c \
    %D%/check_file.c %D%/check_json.c %D%/check_math.c

#check_PROGRAMS += %D%/check_config
#tests_check_config_SOURCES = %D%/check_config.c
check_PROGRAMS += %D%/check_codec %D%/check_model %D%/check_tokenizer
tests_check_codec_SOURCES = %D%/check_codec.c
tests_check_model_SOURCES = %D%/check_model.c
tests_check_tokenizer_SOURCES = %D%/check_tokenizer.c

check_PROGRAMS += %D%/check_store %D%/check_evaluate
check_PROGRAMS += %D%/check_evaluators %D%/check_reporters
tests_check_store_SOURCES = %D%/check_store.c
tests_check_evaluate_SOURCES = %D%/check_evaluate.c
tests_check_evaluators_SOURCES = %D%/plug.h %D%/check_evaluators.c
tests_check_reporters_SOURCES = %D%/plug.h %D%/check_reporters.c
endif

shell_tests += %D%/layering.sh
shell_tests += %D%/symbols.sh

TESTS = $(check_PROGRAMS) $(shell_tests)
TEST_EXTENSIONS = .sh
AM_TESTS_ENVIRONMENT = \
    LAMINA_SRCDIR='$(abs_top_srcdir)'; export LAMINA_SRCDIR; \
    LAMINA_BUILDDIR='$(abs_top_builddir)'; export LAMINA_BUILDDIR; \
    LAMINA_PLUGIN_PATH='$(abs_top_builddir)/plugins'; export LAMINA_PLUGIN_PATH; \
    NM='$(NM)'; export NM;
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
LOG_COMPILER = $(SHELL) $(builddir)/tests/run-check
SH_LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_COMPILER = $(SHELL)

EXTRA_DIST += $(shell_tests) %D%/tap.sh %D%/golden

# Under valgrind, in one process, with patience.
check-valgrind:
	$(MAKE) check CK_FORK=no CK_DEFAULT_TIMEOUT=300 TESTS='$(check_PROGRAMS)' \
	    WRAPPER='valgrind -q --error-exitcode=99 --leak-check=full'
.PHONY: check-valgrind

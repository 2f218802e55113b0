# SPDX-License-Identifier: Apache-2.0
# Check programs report each of their tests through TAP (run-check); shell
# tests print TAP themselves with the functions of tap.sh.
LDADD = liblamina-core.la $(LAMINA_LIBS) $(CHECK_LIBS)

shell_tests =
if HAVE_CHECK
check_PROGRAMS += %D%/check_base
tests_check_base_SOURCES = %D%/testing.h %D%/check_base.h %D%/check_base.c \
    %D%/check_file.c %D%/check_json.c %D%/check_math.c

check_PROGRAMS += %D%/check_conf %D%/check_opt %D%/check_loader
tests_check_conf_SOURCES = %D%/check_conf.c
tests_check_opt_SOURCES = %D%/check_opt.c
tests_check_loader_SOURCES = %D%/check_loader.c
include tests/evil/local.mk
check_PROGRAMS += %D%/check_codec %D%/check_model %D%/check_tokenizer
tests_check_codec_SOURCES = %D%/codec_blocks.h %D%/check_codec.c
EXTRA_DIST += %D%/codec_blocks.py
tests_check_model_SOURCES = %D%/check_model.c
tests_check_tokenizer_SOURCES = %D%/check_tokenizer.c

check_PROGRAMS += %D%/check_store %D%/check_evaluate
check_PROGRAMS += %D%/check_race %D%/check_reduce
tests_check_reduce_SOURCES = %D%/check_reduce.c
tests_check_race_SOURCES = %D%/check_race.c
check_PROGRAMS += %D%/check_evaluators %D%/check_reporters
tests_check_store_SOURCES = %D%/check_store.c
tests_check_evaluate_SOURCES = %D%/number_engine.h %D%/check_evaluate.c
check_PROGRAMS += %D%/check_timing
tests_check_timing_SOURCES = %D%/number_engine.h %D%/check_timing.c
tests_check_evaluators_SOURCES = %D%/plug.h %D%/check_evaluators.c
tests_check_reporters_SOURCES = %D%/plug.h %D%/check_reporters.c

check_PROGRAMS += %D%/check_broken %D%/check_view %D%/check_estimate %D%/check_guards
tests_check_guards_SOURCES = %D%/testing.h %D%/check_guards.c
tests_check_broken_SOURCES = %D%/testing.h %D%/check_broken.c
tests_check_view_SOURCES = %D%/testing.h %D%/check_view.c
tests_check_estimate_SOURCES = %D%/testing.h %D%/check_estimate.c
check_PROGRAMS += %D%/check_pareto %D%/check_search
tests_check_pareto_SOURCES = %D%/check_pareto.c
tests_check_search_SOURCES = %D%/check_search.h %D%/search_rig.h %D%/search_rig.c \
    %D%/check_search.c %D%/check_search_answers.c \
    %D%/check_search_lagrangian.c %D%/check_search_baselines.c \
    %D%/check_search_evolve.c %D%/check_search_models.c plugins/search/genes.c \
    plugins/search/gp.c plugins/search/improve.c plugins/search/parzen.c
tests_check_search_CFLAGS = $(AM_CFLAGS)

# Numbers behind strategies, against other ways to get them.
check_PROGRAMS += %D%/check_regress
tests_check_regress_SOURCES = %D%/testing.h %D%/check_regress.c plugins/search/genes.c \
    plugins/search/regress.c plugins/search/predictor.c plugins/search/niches.c \
    plugins/search/prices.c
tests_check_regress_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/plugins/search

check_PROGRAMS += %D%/check_space %D%/check_plan %D%/check_candidate
check_PROGRAMS += %D%/check_pruners %D%/check_scorers %D%/check_repair
tests_check_space_SOURCES = %D%/check_space.c
tests_check_plan_SOURCES = %D%/check_plan.c
tests_check_candidate_SOURCES = %D%/inst.h %D%/toy.h %D%/check_candidate.h \
    %D%/check_candidate.c %D%/check_candidate_bias.c %D%/check_candidate_hidden.c \
    %D%/check_candidate_spill.c
tests_check_pruners_SOURCES = %D%/prune_rig.h %D%/inst.h %D%/toy.h %D%/check_pruners.c
tests_check_scorers_SOURCES = %D%/inst.h %D%/toy.h %D%/check_scorers.c
check_PROGRAMS += %D%/check_inverse_hessian %D%/check_masks
tests_check_masks_SOURCES = %D%/prune_rig.h %D%/inst.h %D%/toy.h %D%/check_masks.c
tests_check_inverse_hessian_SOURCES = %D%/inst.h %D%/toy.h %D%/check_inverse_hessian.c
tests_check_repair_SOURCES = %D%/inst.h %D%/check_repair.h %D%/check_repair.c \
    %D%/check_admm.c
check_PROGRAMS += %D%/check_quant
tests_check_quant_SOURCES = %D%/inst.h %D%/toy.h %D%/check_candidate.h %D%/check_quant.h \
    %D%/check_quant.c %D%/check_candidate_quant.c
check_PROGRAMS += %D%/check_refine
tests_check_refine_SOURCES = %D%/inst.h %D%/toy.h %D%/check_candidate.h \
    %D%/check_refine.c

check_PROGRAMS += %D%/check_formats
tests_check_formats_SOURCES = %D%/testing.h %D%/plug.h %D%/check_formats.h \
    %D%/check_formats.c %D%/check_formats_bad.c %D%/check_formats_uneven.c

check_PROGRAMS += %D%/check_families %D%/check_convert
tests_check_convert_SOURCES = %D%/testing.h %D%/check_convert.c
tests_check_families_SOURCES = %D%/testing.h %D%/plug.h %D%/check_formats.h \
    %D%/engine_kit.h %D%/check_families.c

check_PROGRAMS += %D%/check_hostile
tests_check_hostile_SOURCES = %D%/check_formats.h %D%/check_hostile.h \
    %D%/check_hostile.c %D%/check_hostile_hf.c

check_PROGRAMS += %D%/check_backend %D%/check_engine %D%/check_stats
check_PROGRAMS += %D%/check_precision %D%/check_stream
if VULKAN
check_PROGRAMS += %D%/check_vulkan %D%/check_vulkan_driver %D%/check_vulkan_model
tests_check_vulkan_model_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h \
    %D%/lavapipe.h %D%/check_gpu_model.h %D%/check_formats.h %D%/check_vulkan_model.c
tests_check_vulkan_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h %D%/lavapipe.h \
    %D%/check_backend.h %D%/check_operators.h %D%/check_vulkan.c
tests_check_vulkan_driver_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h \
    %D%/lavapipe.h %D%/check_vulkan_driver.c $(vulkan_sources)
nodist_tests_check_vulkan_driver_SOURCES = plugins/backends/vk_shaders.h
tests_check_vulkan_driver_CPPFLAGS = $(AM_CPPFLAGS) -Iplugins/backends \
    -I$(top_srcdir)/plugins/backends
endif
tests_check_backend_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h \
    %D%/check_backend.h %D%/check_operators.h %D%/check_backend.c
tests_check_precision_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h \
    %D%/check_backend.h %D%/check_operators.h %D%/check_precision.c
tests_check_stream_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h %D%/check_stream.c
tests_check_engine_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h %D%/check_engine.c
tests_check_stats_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h %D%/check_stats.c

# parts of a plugin are compiled anew: a vocabulary-only file is no model
check_PROGRAMS += %D%/check_vocab %D%/check_chat
tests_check_vocab_SOURCES = %D%/testing.h %D%/plug.h %D%/check_formats.h \
    %D%/check_vocab.c plugins/formats/gguf_parse.c plugins/formats/gguf_vocab.c
tests_check_vocab_CFLAGS = $(AM_CFLAGS)
tests_check_chat_SOURCES = %D%/testing.h %D%/chat_cases.h %D%/check_chat.c

# The backend `cuda` without a GPU: its driver and kernels emulated, in C++.
check_PROGRAMS += %D%/check_cuda %D%/check_cuda_model
tests_check_cuda_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h %D%/check_backend.h \
    %D%/check_operators.h %D%/fakecuda.h %D%/check_cuda.c
tests_check_cuda_model_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h \
    %D%/fakecuda.h %D%/check_gpu_model.h %D%/check_formats.h %D%/check_cuda_model.c
# The same with a piece of memory for each span.
check_LTLIBRARIES += %D%/cuda/backends/cuda.la
tests_cuda_backends_cuda_la_SOURCES = %D%/cuda/pool.c plugins/backends/cuda.c \
    plugins/backends/cuda_driver.c plugins/backends/cuda_driver.h \
    plugins/backends/cuda_list.h plugins/backends/cuda_queue.c plugins/backends/gpu.h \
    plugins/backends/gpu_lower.c plugins/backends/gpu_run.c plugins/backends/gpu_state.c \
    plugins/backends/gpu_weight.c plugins/backends/program.h
nodist_tests_cuda_backends_cuda_la_SOURCES = plugins/backends/cuda_image.c
tests_cuda_backends_cuda_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/plugins/backends
tests_cuda_backends_cuda_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
tests_cuda_backends_cuda_la_LIBADD = -lm -ldl
if HAVE_CXX
check_DATA = %D%/cuda/fakecuda.so
CLEANFILES += %D%/cuda/fakecuda.so
%D%/cuda/fakecuda.so: %D%/cuda/emulator.h %D%/cuda/fakecuda.cpp %D%/cuda/faults.cuh \
    $(cuda_kernels)
	@$(MKDIR_P) %D%/cuda
	$(AM_V_GEN)$(CXX) -std=c++17 -O2 -g -Wall -Wextra -Wno-unknown-pragmas $(CXX_SANITIZE) \
	    -fPIC -shared -o $@ $(srcdir)/%D%/cuda/fakecuda.cpp
endif
# The parser of tables is compiled anew: the plugin shows no part of it.
check_PROGRAMS += %D%/check_table
tests_check_table_SOURCES = %D%/testing.h %D%/plug.h %D%/engine_kit.h %D%/check_table.c \
    plugins/evaluators/table.c
tests_check_table_CFLAGS = $(AM_CFLAGS)

check_PROGRAMS += %D%/check_workers %D%/check_crew %D%/check_units
tests_check_units_SOURCES = %D%/testing.h %D%/check_units.c
tests_check_crew_SOURCES = %D%/testing.h %D%/check_crew.c
tests_check_workers_SOURCES = %D%/testing.h %D%/check_workers.c
check_PROGRAMS += %D%/check_job
tests_check_job_SOURCES = %D%/testing.h %D%/check_job.c
check_PROGRAMS += %D%/check_sweep
tests_check_sweep_SOURCES = %D%/testing.h %D%/check_sweep.c
check_PROGRAMS += %D%/check_smollm2
tests_check_smollm2_SOURCES = %D%/testing.h %D%/check_smollm2.c
endif

shell_tests += %D%/layering.sh
shell_tests += %D%/symbols.sh
shell_tests += %D%/cuda_image.sh
shell_tests += %D%/e2e_convert.sh
shell_tests += %D%/e2e_bias.sh %D%/e2e_hidden.sh
shell_tests += %D%/e2e_refine.sh
%D%/e2e_refine.log: %D%/json_get$(EXEEXT)
shell_tests += %D%/e2e_profile.sh
%D%/e2e_profile.log: %D%/json_get$(EXEEXT)
shell_tests += %D%/e2e_systems.sh
%D%/e2e_systems.log: %D%/json_get$(EXEEXT)
shell_tests += %D%/e2e_members.sh
%D%/e2e_members.log: %D%/plugins/plain.la %D%/json_get$(EXEEXT)
shell_tests += %D%/e2e_quant.sh
shell_tests += %D%/modeling.sh
shell_tests += %D%/e2e_cli.sh %D%/e2e_check.sh %D%/e2e_run.sh %D%/e2e_shrink.sh \
    %D%/e2e_resume.sh %D%/e2e_command.sh %D%/e2e_chat.sh
shell_tests += %D%/e2e_broken.sh
shell_tests += %D%/e2e_race.sh
shell_tests += %D%/e2e_stream.sh
shell_tests += %D%/e2e_sweep.sh
shell_tests += %D%/docs.sh

shell_tests += %D%/e2e_selftest.sh %D%/e2e_new_plugin.sh \
    %D%/e2e_examples.sh

# What the end-to-end tests need besides the program: a look into JSON, and a
# scorer with the wrong sign.
EXTRA_PROGRAMS += %D%/json_get
CLEANFILES += %D%/json_get$(EXEEXT) %D%/plugins/reversed.la %D%/plugins/plain.la
tests_json_get_SOURCES = %D%/json_get.c
EXTRA_LTLIBRARIES = %D%/plugins/reversed.la
tests_plugins_reversed_la_SOURCES = %D%/plugins/reversed.c
tests_plugins_reversed_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
%D%/e2e_cli.log %D%/e2e_check.log %D%/e2e_run.log %D%/e2e_shrink.log %D%/e2e_resume.log \
%D%/e2e_command.log %D%/e2e_chat.log %D%/docs.log: \
    %D%/json_get$(EXEEXT)
%D%/e2e_broken.log: %D%/json_get$(EXEEXT)
%D%/e2e_stream.log: %D%/json_get$(EXEEXT) bench/big_model$(EXEEXT) bench/peak$(EXEEXT)
%D%/e2e_run.log: %D%/plugins/reversed.la
# A format that holds little.
EXTRA_LTLIBRARIES += %D%/plugins/plain.la
tests_plugins_plain_la_SOURCES = %D%/plugins/plain.c
tests_plugins_plain_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
%D%/e2e_bias.log %D%/e2e_hidden.log %D%/e2e_quant.log: %D%/plugins/plain.la %D%/json_get$(EXEEXT)
# A strategy that asks for prices.
EXTRA_LTLIBRARIES += %D%/plugins/thrifty.la
tests_plugins_thrifty_la_SOURCES = %D%/plugins/thrifty.c
tests_plugins_thrifty_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
CLEANFILES += %D%/plugins/thrifty.la
%D%/e2e_race.log: %D%/plugins/thrifty.la %D%/plugins/shaky.la %D%/json_get$(EXEEXT)
# An evaluator that breaks its process, and one that wants quiet.
EXTRA_LTLIBRARIES += %D%/plugins/shaky.la %D%/plugins/still.la
tests_plugins_shaky_la_SOURCES = %D%/plugins/shaky.c
tests_plugins_shaky_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
tests_plugins_still_la_SOURCES = %D%/plugins/shaky.c
tests_plugins_still_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
tests_plugins_still_la_CPPFLAGS = $(AM_CPPFLAGS) -DQUIET
CLEANFILES += %D%/plugins/shaky.la %D%/plugins/still.la
shell_tests += %D%/e2e_workers.sh
%D%/e2e_workers.log: %D%/plugins/shaky.la %D%/plugins/still.la %D%/json_get$(EXEEXT)
# A backend whose devices fail.
EXTRA_LTLIBRARIES += %D%/plugins/frail.la
tests_plugins_frail_la_SOURCES = %D%/plugins/frail.c
tests_plugins_frail_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/plugins/backends
tests_plugins_frail_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
tests_plugins_frail_la_LIBADD = -lm
CLEANFILES += %D%/plugins/frail.la
shell_tests += %D%/e2e_devices.sh
%D%/e2e_devices.log: %D%/plugins/frail.la %D%/json_get$(EXEEXT)
EXTRA_DIST += %D%/e2e.sh

include tests/fuzz/local.mk

TESTS = $(check_PROGRAMS) $(shell_tests)
TEST_EXTENSIONS = .sh
AM_TESTS_ENVIRONMENT = \
    LAMINA_SRCDIR='$(abs_top_srcdir)'; export LAMINA_SRCDIR; \
    LAMINA_BUILDDIR='$(abs_top_builddir)'; export LAMINA_BUILDDIR; \
    LAMINA_PLUGIN_PATH='$(abs_top_builddir)/plugins'; export LAMINA_PLUGIN_PATH; \
    NM='$(NM)'; export NM; LAMINA_FUZZ='$(FUZZ_LINK)'; export LAMINA_FUZZ;
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
LOG_COMPILER = $(SHELL) $(builddir)/tests/run-check
SH_LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_COMPILER = $(SHELL)

EXTRA_DIST += %D%/cuda/emulator.h %D%/cuda/fakecuda.cpp %D%/cuda/faults.cuh
EXTRA_DIST += $(shell_tests) %D%/tap.sh %D%/golden %D%/vocab

# Under valgrind, in one process, with patience.
check-valgrind:
	$(MAKE) check CK_FORK=no CK_DEFAULT_TIMEOUT=300 TESTS='$(check_PROGRAMS)' \
	    WRAPPER='valgrind -q --error-exitcode=99 --leak-check=full'
.PHONY: check-valgrind

# What takes too long for every day: each allocation and file operation of a
# whole run fails once, SIGKILL at 20 moments for five seeds; a model of 7B in 8 GiB.
check-long:
	LAMINA_LONG=1 $(MAKE) check CK_DEFAULT_TIMEOUT=3600 TESTS=tests/check_job
	for seed in 2 3 4 5 6; do \
	    LAMINA_KILL_SEED=$$seed $(MAKE) check TESTS=tests/e2e_resume.sh || exit 1; \
	done
	$(MAKE) bench/big_model$(EXEEXT) bench/peak$(EXEEXT)
	LAMINA_BUILD='$(abs_top_builddir)' $(SHELL) $(srcdir)/bench/larger
.PHONY: check-long

# The plugins of examples/plugin against the installed program and header.
installcheck-local:
	@LAMINA_SRCDIR='$(abs_top_srcdir)' LAMINA_BUILDDIR='$(abs_top_builddir)' \
	INSTALLED_PROGRAM='$(DESTDIR)$(bindir)/lamina' \
	INSTALLED_PC='$(DESTDIR)$(pkgconfigdir)' \
	INSTALLED_PLUGINS='$(DESTDIR)$(plugindir)' PKG_CONFIG_SYSROOT_DIR='$(DESTDIR)' \
	$(SHELL) $(srcdir)/tests/e2e_examples.sh \
	    >installcheck.log; status=$$?; cat installcheck.log; \
	test $$status = 0 && ! grep '^not ok' installcheck.log >/dev/null
CLEANFILES += installcheck.log
.PHONY: installcheck-local

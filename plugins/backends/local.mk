# SPDX-License-Identifier: Apache-2.0
backendsdir = $(plugindir)/backends
backends_LTLIBRARIES =

backends_LTLIBRARIES += %D%/cpu.la
plugins_backends_cpu_la_SOURCES = %D%/cpu.c %D%/cpu.h %D%/cpu_kernels.c %D%/cpu_ops.c \
    %D%/cpu_attention.c %D%/cpu_codes.c %D%/cpu_codes.h %D%/cpu_gemm.c %D%/cpu_gemm.h \
    %D%/cpu_head.c %D%/cpu_product.c \
    %D%/cpu_lanes.h %D%/cpu_rows.h %D%/cpu_tile.h %D%/cpu_vector.h %D%/machine.h %D%/program.h
plugins_backends_cpu_la_LDFLAGS = $(PLUGIN_LINK)
plugins_backends_cpu_la_LIBADD = -lm

backends_LTLIBRARIES += %D%/reference.la
plugins_backends_reference_la_SOURCES = %D%/reference.c %D%/machine.h %D%/program.h
plugins_backends_reference_la_LDFLAGS = $(PLUGIN_LINK)
plugins_backends_reference_la_LIBADD = -lm

# What backends on GPUs share, in each of them.
gpu_sources = %D%/gpu.h %D%/gpu_lower.c %D%/gpu_pool.c %D%/gpu_run.c %D%/gpu_state.c \
    %D%/gpu_weight.c %D%/program.h
shader_sources = %D%/shaders/common.glsl %D%/shaders/reduce.glsl %D%/shaders/weight.glsl \
    %D%/shaders/attention.comp %D%/shaders/bytes.comp %D%/shaders/embed.comp \
    %D%/shaders/finish.comp %D%/shaders/fold.comp %D%/shaders/matrix.comp \
    %D%/shaders/norm.comp %D%/shaders/pair.comp %D%/shaders/rope.comp \
    %D%/shaders/round.comp %D%/shaders/share.comp %D%/shaders/vector.comp
vulkan_sources = %D%/vk.h %D%/vk_instance.c %D%/vk_open.c %D%/vk_pipeline.c \
    %D%/vk_queue.c $(gpu_sources)
EXTRA_DIST += $(shader_sources) %D%/shaders/make.sh $(vulkan_sources) %D%/vulkan.c \
    %D%/vk_shaders.h

if VULKAN
backends_LTLIBRARIES += %D%/vulkan.la
plugins_backends_vulkan_la_SOURCES = %D%/vulkan.c $(vulkan_sources)
nodist_plugins_backends_vulkan_la_SOURCES = %D%/vk_shaders.h
plugins_backends_vulkan_la_CPPFLAGS = $(AM_CPPFLAGS) -I%D%
plugins_backends_vulkan_la_LDFLAGS = $(PLUGIN_LINK)
plugins_backends_vulkan_la_LIBADD = -lm -ldl
%D%/vulkan_la-vk_pipeline.lo: %D%/vk_shaders.h
endif

# Distributed, so that only who changes a kernel needs the compiler.
if HAVE_GLSLANG
MAINTAINERCLEANFILES = %D%/vk_shaders.h
%D%/vk_shaders.h: $(shader_sources) %D%/shaders/make.sh
	@$(MKDIR_P) %D%
	$(AM_V_GEN)sh $(srcdir)/%D%/shaders/make.sh $(GLSLANG) $(srcdir)/%D%/shaders $@
endif

cuda_kernels = %D%/cuda_list.h %D%/cuda/attention.cuh %D%/cuda/bare.cuh \
    %D%/cuda/common.cuh %D%/cuda/head.cuh %D%/cuda/kernels.cu %D%/cuda/product.cuh \
    %D%/cuda/rows.cuh %D%/cuda/weight.cuh
EXTRA_DIST += $(cuda_kernels) %D%/cuda/image.sh %D%/cuda/kernels.ptx

backends_LTLIBRARIES += %D%/cuda.la
plugins_backends_cuda_la_SOURCES = %D%/cuda.c %D%/cuda_driver.c %D%/cuda_driver.h \
    %D%/cuda_list.h %D%/cuda_queue.c $(gpu_sources)
nodist_plugins_backends_cuda_la_SOURCES = %D%/cuda_image.c
plugins_backends_cuda_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/%D%
plugins_backends_cuda_la_LDFLAGS = $(PLUGIN_LINK)
plugins_backends_cuda_la_LIBADD = -lm -ldl
CLEANFILES += %D%/cuda_image.c

%D%/cuda_image.c: $(cuda_kernels) %D%/cuda/image.sh %D%/cuda/kernels.ptx config.status
	@$(MKDIR_P) %D%
	$(AM_V_GEN)sh $(srcdir)/%D%/cuda/image.sh '$(CUDA_COMPILER)' $(srcdir)/%D%/cuda $@

# The PTX that is distributed, for builds without a compiler for it: after a change of a
# kernel, with nvcc.
cuda-ptx:
	sh $(srcdir)/%D%/cuda/image.sh nvcc $(srcdir)/%D%/cuda $(srcdir)/%D%/cuda/kernels.ptx
.PHONY: cuda-ptx

/* SPDX-License-Identifier: Apache-2.0 */
/* vk_pipeline.c -- kernels as compute pipelines, each made when it is first used. */
#include "vk.h"
#include "vk_shaders.h"

struct shader { const uint32_t *code; size_t size; };
#define SHADER(name) { name##_spv, sizeof name##_spv }
#define PLAIN(name) { { SHADER(name), SHADER(name) }, \
                      { SHADER(name##_half), SHADER(name##_half) } }
#define SPECIAL(name) { { SHADER(name), SHADER(name##_more) }, \
                        { SHADER(name##_half), SHADER(name##_half_more) } }

/* [kernel][16-bit floats][subgroups or integer dot products] */
static const struct shader shaders[GPU_N_KERNELS][2][2] = {
    [GPU_EMBED] = PLAIN(embed), [GPU_NORM] = PLAIN(norm), [GPU_MATRIX] = PLAIN(matrix),
    [GPU_VECTOR] = SPECIAL(vector), [GPU_BYTES] = SPECIAL(bytes),
    [GPU_ROUND] = PLAIN(round), [GPU_ROPE] = PLAIN(rope),
    [GPU_ATTENTION] = PLAIN(attention), [GPU_PAIR] = PLAIN(pair),
    [GPU_FOLD] = PLAIN(fold), [GPU_SHARE] = PLAIN(share), [GPU_FINISH] = PLAIN(finish)
};

/* Kernels with as many bindings share a layout: buffers, pushed, and 16 words. */
static enum lm_status open_layout(struct vk *v, uint32_t n, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    VkDescriptorSetLayoutBinding bind[GPU_MAX_BIND];
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .flags = VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR,
        .bindingCount = n, .pBindings = bind
    };
    const VkPushConstantRange words = { .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                        .size = GPU_MAX_WORDS * 4 };
    const VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1,
        .pSetLayouts = &v->set[n], .pushConstantRangeCount = 1,
        .pPushConstantRanges = &words
    };

    for (uint32_t i = 0; i < n; i++)
        bind[i] = (VkDescriptorSetLayoutBinding){
            .binding = i, .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1, .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT
        };
    enum lm_status st = vk_check(v, a->CreateDescriptorSetLayout(v->device, &set, NULL,
                                                                 &v->set[n]),
                                 "a descriptor layout", e);
    return st ? st : vk_check(v, a->CreatePipelineLayout(v->device, &layout, NULL,
                                                         &v->layout[n]),
                              "a pipeline layout", e);
}

enum lm_status vk_layouts_open(struct vk *v, struct lm_err *e)
{
    const VkPipelineCacheCreateInfo cache = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO
    };
    enum lm_status st = vk_check(v, v->instance.api.CreatePipelineCache(
        v->device, &cache, NULL, &v->cache), "a pipeline cache", e);

    for (uint32_t n = 1; n <= GPU_MAX_BIND && !st; n++)
        st = open_layout(v, n, e);
    return st;
}

static enum lm_status make(struct vk *v, uint32_t kernel, uint32_t n_bind,
                           VkPipeline *out, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    bool more = kernel == GPU_VECTOR ? v->subgroup : kernel == GPU_BYTES && v->dot;
    const struct shader *s = &shaders[kernel][v->half][more];
    const VkShaderModuleCreateInfo code = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = s->size,
        .pCode = s->code
    };
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = { .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                   .stage = VK_SHADER_STAGE_COMPUTE_BIT, .pName = "main" },
        .layout = v->layout[n_bind]
    };
    enum lm_status st = vk_check(v, a->CreateShaderModule(v->device, &code, NULL,
                                                          &info.stage.module),
                                 "a kernel", e);

    if (st)
        return st;
    st = vk_check(v, a->CreateComputePipelines(v->device, v->cache, 1, &info, NULL, out),
                  "a kernel", e);
    a->DestroyShaderModule(v->device, info.stage.module, NULL);
    return st;
}

enum lm_status vk_find_pipeline(struct vk *v, uint32_t kernel, uint32_t n_bind,
                                VkPipeline *out, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    pthread_mutex_lock(&v->lock);
    if (!v->pipeline[kernel])
        st = make(v, kernel, n_bind, &v->pipeline[kernel], e);
    *out = v->pipeline[kernel];
    pthread_mutex_unlock(&v->lock);
    return st;
}

void vk_pipelines_close(struct vk *v)
{
    const struct vk_api *a = &v->instance.api;

    for (int i = 0; i < GPU_N_KERNELS; i++)
        if (v->pipeline[i])
            a->DestroyPipeline(v->device, v->pipeline[i], NULL);
    for (int n = 1; n <= GPU_MAX_BIND; n++) {
        if (v->layout[n])
            a->DestroyPipelineLayout(v->device, v->layout[n], NULL);
        if (v->set[n])
            a->DestroyDescriptorSetLayout(v->device, v->set[n], NULL);
    }
    if (v->cache)
        a->DestroyPipelineCache(v->device, v->cache, NULL);
}

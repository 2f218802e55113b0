/* SPDX-License-Identifier: Apache-2.0 */
/* vk_open.c -- a logical device with one compute queue. */
#include <string.h>

#include "vk.h"

static enum lm_status lacks(struct vk *v, const char *what, struct lm_err *e)
{
    return v->host->fail(e, LM_EUNAVAILABLE, "the Vulkan device %s has no %s",
                         v->found->properties.deviceName, what);
}

enum lm_status vk_check(struct vk *v, VkResult r, const char *what, struct lm_err *e)
{
    if (r == VK_SUCCESS)
        return LM_OK;
    if (r == VK_ERROR_DEVICE_LOST)
        v->lost = true;
    if (v->lost)
        return v->host->fail(e, LM_EUNAVAILABLE, "%s: the Vulkan device was lost", what);
    if (r == VK_ERROR_OUT_OF_HOST_MEMORY)
        return v->host->fail(e, LM_ENOMEM, "%s: out of memory for the Vulkan driver",
                             what);
    if (r == VK_ERROR_OUT_OF_DEVICE_MEMORY)
        return v->host->fail(e, LM_EINFEASIBLE, "%s: the Vulkan device is out of memory",
                             what);
    return v->host->fail(e, LM_EFAILED, "%s: Vulkan error %d", what, (int)r);
}

/* ---- what the device has ----------------------------------------------------------- */

static enum lm_status list_extensions(struct vk *v, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    VkResult r = a->EnumerateDeviceExtensionProperties(v->found->device, NULL,
                                                       &v->n_extension, NULL);

    if (r == VK_SUCCESS && v->n_extension > 4096)
        r = VK_ERROR_UNKNOWN;
    if (r != VK_SUCCESS)
        return vk_check(v, r, "a device's extensions", e);
    v->extension = v->host->alloc((v->n_extension + 1) * sizeof *v->extension,
                                  "extensions");
    if (!v->extension)
        return program_no_memory(v->host, (double)v->n_extension * sizeof *v->extension,
                                 "a list of extensions", e);
    r = a->EnumerateDeviceExtensionProperties(v->found->device, NULL, &v->n_extension,
                                              v->extension);
    return vk_check(v, r == VK_INCOMPLETE ? VK_SUCCESS : r, "a device's extensions", e);
}

static bool has_extension(const struct vk *v, const char *name)
{
    for (uint32_t i = 0; i < v->n_extension; i++)
        if (!strcmp(v->extension[i].extensionName, name))
            return true;
    return false;
}

struct features {
    VkPhysicalDeviceFeatures2 base;
    VkPhysicalDevice16BitStorageFeatures half;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot;
};

/* A chain of what may be asked: links[i] is there if ask[i]. */
static void chain(struct features *f, bool half, bool dot)
{
    f->base.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    f->half.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES;
    f->dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES;
    f->dot.pNext = NULL;
    f->half.pNext = dot ? &f->dot : NULL;
    f->base.pNext = half ? (void *)&f->half : f->half.pNext;
}

/* Which variants of kernels it can run. */
static enum lm_status choose_features(struct vk *v, const struct vk_choice *c,
                                      struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    bool known = v->found->properties.apiVersion >= VK_API_VERSION_1_3
              || has_extension(v, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    struct features f = { 0 };
    VkPhysicalDeviceShaderIntegerDotProductProperties dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES
    };
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
        .pNext = known ? &dot : NULL
    };
    VkPhysicalDeviceProperties2 p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &subgroup
    };

    chain(&f, true, known);
    a->GetPhysicalDeviceFeatures2(v->found->device, &f.base);
    a->GetPhysicalDeviceProperties2(v->found->device, &p);
    if (c->half && !f.half.storageBuffer16BitAccess)
        return lacks(v, "16-bit storage; use activations = \"f32\"", e);
    v->half = c->half;
    v->subgroup = c->features != VK_FEATURES_PLAIN
        && subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT
        && subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT;
    v->dot = c->features != VK_FEATURES_PLAIN && known && f.dot.shaderIntegerDotProduct
        && (c->features == VK_FEATURES_ALL
            || dot.integerDotProduct4x8BitPackedSignedAccelerated);
    return LM_OK;
}

static enum lm_status choose_family(struct vk *v, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    VkQueueFamilyProperties family[32];
    uint32_t n = 32;

    a->GetPhysicalDeviceQueueFamilyProperties(v->found->device, &n, family);
    for (v->family = 0; v->family < n; v->family++)
        if (family[v->family].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            uint32_t bits = family[v->family].timestampValidBits;

            v->tick = bits ? (double)v->found->properties.limits.timestampPeriod : 0;
            v->tick_mask = bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
            return LM_OK;
        }
    return lacks(v, "compute queue", e);
}

/* Types that can hold our buffers. */
static enum lm_status find_bits(struct vk *v, uint32_t *bits, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    const VkBufferCreateInfo info = VK_OUR_BUFFER(GPU_ALIGN);
    VkMemoryRequirements need;
    VkBuffer b;
    enum lm_status st = vk_check(v, a->CreateBuffer(v->device, &info, NULL, &b),
                                 "a buffer", e);

    if (st)
        return st;
    a->GetBufferMemoryRequirements(v->device, b, &need);
    a->DestroyBuffer(v->device, b, NULL);
    *bits = need.memoryTypeBits;
    return LM_OK;
}

/* The first memory type with these properties; false: there is none. */
static bool find_type(const VkPhysicalDeviceMemoryProperties *m, uint32_t bits,
                      VkMemoryPropertyFlags wanted, uint64_t least, uint32_t *out)
{
    for (uint32_t i = 0; i < m->memoryTypeCount; i++)
        if (bits >> i & 1
            && (m->memoryTypes[i].propertyFlags & wanted) == wanted
            && m->memoryHeaps[m->memoryTypes[i].heapIndex].size >= least) {
            *out = i;
            return true;
        }
    return false;
}

/* Weights go to the device's memory; where the host reaches all of it, without a copy.
 * The host reads fast only what it caches.                                        */
static enum lm_status choose_memory(struct vk *v, bool staging, struct lm_err *e)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT
                                     | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2
    };

    const VkMemoryPropertyFlags cached = host | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    uint32_t bits = 0;
    enum lm_status st = find_bits(v, &bits, e);

    if (st)
        return st;
    v->instance.api.GetPhysicalDeviceMemoryProperties2(v->found->device, &m);
    const VkPhysicalDeviceMemoryProperties *p = &m.memoryProperties;
    v->mapped = !staging && find_type(p, bits, local | host, v->found->memory, &v->type);
    if (!v->mapped && !find_type(p, bits, local, v->found->memory, &v->type))
        return lacks(v, "memory of its own", e);
    if (!find_type(p, bits, cached, 0, &v->shared_type)
        && !find_type(p, bits, host, 0, &v->shared_type))
        return lacks(v, "memory that the host reaches", e);
    v->cached = (p->memoryTypes[v->type].propertyFlags & cached) == cached;
    return LM_OK;
}

static void find_limits(struct vk *v)
{
    VkPhysicalDeviceMaintenance4Properties four = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES,
        .maxBufferSize = UINT64_MAX
    };
    VkPhysicalDeviceMaintenance3Properties m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
        .pNext = v->found->properties.apiVersion >= VK_API_VERSION_1_3 ? &four : NULL
    };
    VkPhysicalDeviceProperties2 p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &m
    };
    const VkPhysicalDeviceLimits *l = &v->found->properties.limits;

    v->instance.api.GetPhysicalDeviceProperties2(v->found->device, &p);
    v->limits.slab = m.maxMemoryAllocationSize < four.maxBufferSize
                   ? m.maxMemoryAllocationSize : four.maxBufferSize;
    v->limits.bind = v->limits.range = l->maxStorageBufferRange;
    v->limits.grid[0] = l->maxComputeWorkGroupCount[0];
    v->limits.grid[1] = l->maxComputeWorkGroupCount[1];
}

static enum lm_status check_limits(struct vk *v, struct lm_err *e)
{
    const VkPhysicalDeviceLimits *l = &v->found->properties.limits;

    if (v->found->properties.apiVersion < VK_API_VERSION_1_1)
        return lacks(v, "Vulkan 1.1", e);
    if (!has_extension(v, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME))
        return lacks(v, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME, e);
    if (l->maxComputeWorkGroupInvocations < 256 || l->maxComputeSharedMemorySize < 16384
        || l->maxPerStageDescriptorStorageBuffers < GPU_MAX_BIND
        || l->minStorageBufferOffsetAlignment > GPU_ALIGN)
        return lacks(v, "room for groups of 256 threads, 16 KiB and 7 buffers", e);
    return LM_OK;
}

/* ---- the device -------------------------------------------------------------------- */

#define FIND(name) \
    a->name = (PFN_vk##name)a->GetDeviceProcAddr(v->device, "vk" #name); \
    complete &= a->name != NULL;

static enum lm_status create(struct vk *v, struct lm_err *e)
{
    struct vk_api *a = &v->instance.api;
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = v->family, .queueCount = 1, .pQueuePriorities = &priority
    };
    const char *name[2] = { VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME,
                            VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME };
    struct features f = { 0 };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &f.base,
        .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue,
        .enabledExtensionCount = v->dot && has_extension(v, name[1]) ? 2 : 1,
        .ppEnabledExtensionNames = name
    };
    bool complete = true;

    chain(&f, v->half, v->dot);
    f.half.storageBuffer16BitAccess = v->half;
    f.dot.shaderIntegerDotProduct = v->dot;
    enum lm_status st = vk_check(v, a->CreateDevice(v->found->device, &info, NULL,
                                                    &v->device), "opening a device", e);
    if (st)
        return st;
    VK_DEVICE(FIND)
    v->complete = complete;
    if (!complete)
        return v->host->fail(e, LM_EUNAVAILABLE, "the driver of %s lacks functions of "
                             "Vulkan 1.1", v->found->properties.deviceName);
    a->GetDeviceQueue(v->device, v->family, 0, &v->queue);
    return LM_OK;
}

static enum lm_status choose_device(struct vk *v, const struct vk_choice *c,
                                    struct lm_err *e)
{
    struct vk_instance *i = &v->instance;

    if (c->device >= i->n_found)
        return v->host->fail(e, LM_ECONFIG, "device = %lld: there are %u, from 0",
                             (long long)c->device, i->n_found);
    v->found = &i->found[c->device];
    if (v->found->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU && !c->software)
        return v->host->fail(e, LM_EUNAVAILABLE, "the Vulkan device %s computes on the "
                             "processor; software = true takes it all the same",
                             v->found->properties.deviceName);
    return LM_OK;
}

enum lm_status vk_open(struct vk *v, const struct lm_host *h, const struct vk_choice *c,
                       struct lm_err *e)
{
    v->host = h;
    pthread_mutex_init(&v->lock, NULL);
    pthread_mutex_init(&v->queue_lock, NULL);
    pthread_mutex_init(&v->staging.lock, NULL);
    enum lm_status st = vk_instance_open(h, c->validate, &v->instance, e);
    if (!st)
        st = choose_device(v, c, e);
    if (!st)
        st = list_extensions(v, e);
    if (!st)
        st = check_limits(v, e);
    if (!st)
        st = choose_features(v, c, e);
    if (!st)
        st = choose_family(v, e);
    if (!st)
        st = create(v, e);
    if (!st)
        st = choose_memory(v, c->staging, e);
    if (!st) {
        find_limits(v);
        st = vk_layouts_open(v, e);
    }
    if (!st && !(v->mapped && v->cached))
        st = vk_staging_open(v, e);
    if (st)
        vk_close(v);
    return st;
}

void vk_close(struct vk *v)
{
    if (v->device && v->complete) {
        v->instance.api.DeviceWaitIdle(v->device);
        vk_queue_close(v);
        vk_pipelines_close(v);
        v->instance.api.DestroyDevice(v->device, NULL);
    }
    vk_instance_close(&v->instance);
    v->host->release(v->extension);
    pthread_mutex_destroy(&v->staging.lock);
    pthread_mutex_destroy(&v->queue_lock);
    pthread_mutex_destroy(&v->lock);
}

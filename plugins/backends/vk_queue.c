/* SPDX-License-Identifier: Apache-2.0 */
/* vk_queue.c -- memory, recordings and their replay.
 *
 * A recorder is a command buffer with its pool, a fence and two timestamps; it serves one
 * thread at a time.  Threads share the one queue; each waits for its own fence.  The
 * host's writes are visible to what is submitted behind them; what a recording wrote is
 * made visible to the host, and to whatever comes later, by barriers at its ends.    */
#include <string.h>

#include "vk.h"

enum { STAGING = 4 << 20 };

struct vk_memory {
    VkBuffer buffer;
    VkDeviceMemory memory;
    char *host;                         /* where the host sees it, or NULL */
};

struct vk_recorder {
    VkCommandPool pool;
    VkCommandBuffer commands;
    VkFence fence;
    VkQueryPool times;                  /* [2] */
    struct vk_recorder *next;           /* idle */
};

struct gpu_recording { struct vk_recorder *recorder; };

/* ---- memory ------------------------------------------------------------------------ */

static void free_memory(void *device, void *memory)
{
    struct vk *v = device;
    struct vk_memory *m = memory;
    const struct vk_api *a = &v->instance.api;

    if (!m)
        return;
    if (m->buffer)
        a->DestroyBuffer(v->device, m->buffer, NULL);
    if (m->memory)                      /* ends the mapping, too */
        a->FreeMemory(v->device, m->memory, NULL);
    v->host->release(m);
}

static enum lm_status bind_memory(struct vk *v, struct vk_memory *m, uint32_t type,
                                  bool mapped, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    VkMemoryRequirements need;
    void *host = NULL;

    a->GetBufferMemoryRequirements(v->device, m->buffer, &need);
    if (!(need.memoryTypeBits >> type & 1))
        return v->host->fail(e, LM_EUNSUPPORTED, "the Vulkan device keeps buffers in no "
                             "memory of type %u", type);
    const VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = need.size,
        .memoryTypeIndex = type
    };
    enum lm_status st = vk_check(v, a->AllocateMemory(v->device, &info, NULL, &m->memory),
                                 "device memory", e);
    if (!st)
        st = vk_check(v, a->BindBufferMemory(v->device, m->buffer, m->memory, 0),
                      "device memory", e);
    if (!st && mapped)
        st = vk_check(v, a->MapMemory(v->device, m->memory, 0, VK_WHOLE_SIZE, 0, &host),
                      "mapping device memory", e);
    m->host = host;
    return st;
}

static enum lm_status alloc_memory(void *device, uint64_t size, bool shared, void **out,
                                   struct lm_err *e)
{
    struct vk *v = device;
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = size,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT
               | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
        .sharingMode = VK_SHARING_MODE_EXCLUSIVE
    };
    struct vk_memory *m = v->host->alloc(sizeof *m, "device memory");

    if (!m)
        return program_no_memory(v->host, sizeof *m, "device memory", e);
    enum lm_status st = vk_check(v, v->instance.api.CreateBuffer(v->device, &info, NULL,
                                                                 &m->buffer),
                                 "a buffer", e);
    if (!st)
        st = bind_memory(v, m, shared ? v->shared_type : v->type, shared || v->mapped, e);
    if (st)
        free_memory(v, m);
    else
        *out = m;
    return st;
}

/* ---- recorders --------------------------------------------------------------------- */

static void free_recorder(struct vk *v, struct vk_recorder *r)
{
    const struct vk_api *a = &v->instance.api;

    if (!r)
        return;
    if (r->pool)
        a->DestroyCommandPool(v->device, r->pool, NULL);
    if (r->fence)
        a->DestroyFence(v->device, r->fence, NULL);
    if (r->times)
        a->DestroyQueryPool(v->device, r->times, NULL);
    v->host->release(r);
}

static enum lm_status open_recorder(struct vk *v, struct vk_recorder *r, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    const VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = v->family
    };
    const VkFenceCreateInfo fence = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
    const VkQueryPoolCreateInfo times = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = 2
    };
    VkCommandBufferAllocateInfo buffer = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1
    };
    VkResult x = a->CreateCommandPool(v->device, &pool, NULL, &r->pool);

    buffer.commandPool = r->pool;
    if (x == VK_SUCCESS)
        x = a->AllocateCommandBuffers(v->device, &buffer, &r->commands);
    if (x == VK_SUCCESS)
        x = a->CreateFence(v->device, &fence, NULL, &r->fence);
    if (x == VK_SUCCESS && v->tick > 0)
        x = a->CreateQueryPool(v->device, &times, NULL, &r->times);
    return vk_check(v, x, "a command buffer", e);
}

static enum lm_status take_recorder(struct vk *v, struct vk_recorder **out,
                                    struct lm_err *e)
{
    pthread_mutex_lock(&v->lock);
    struct vk_recorder *r = v->idle;
    v->idle = r ? r->next : NULL;
    pthread_mutex_unlock(&v->lock);
    enum lm_status st = LM_OK;
    if (!r) {
        if (!(r = v->host->alloc(sizeof *r, "recording")))
            return program_no_memory(v->host, sizeof *r, "a recording", e);
        st = open_recorder(v, r, e);
    }
    if (st)
        free_recorder(v, r);
    else
        *out = r;
    return st;
}

static void give_recorder(struct vk *v, struct vk_recorder *r)
{
    v->instance.api.ResetCommandPool(v->device, r->pool, 0);
    pthread_mutex_lock(&v->lock);
    r->next = v->idle;
    v->idle = r;
    pthread_mutex_unlock(&v->lock);
}

static void barrier(struct vk *v, struct vk_recorder *r, VkPipelineStageFlags from,
                    VkAccessFlags wrote, VkPipelineStageFlags to, VkAccessFlags reads)
{
    const VkMemoryBarrier b = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                .srcAccessMask = wrote, .dstAccessMask = reads };

    v->instance.api.CmdPipelineBarrier(r->commands, from, to, 0, 1, &b, 0, NULL, 0, NULL);
}

/* Behind whatever was submitted before. */
static enum lm_status begin(struct vk *v, struct vk_recorder *r, struct lm_err *e)
{
    const VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
    };
    enum lm_status st = vk_check(v, v->instance.api.BeginCommandBuffer(r->commands, &info),
                                 "a recording", e);

    if (!st)
        barrier(v, r, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, VK_ACCESS_MEMORY_WRITE_BIT,
                VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
                VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT);
    return st;
}

static enum lm_status end(struct vk *v, struct vk_recorder *r, struct lm_err *e)
{
    barrier(v, r, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, VK_ACCESS_MEMORY_WRITE_BIT,
            VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    return vk_check(v, v->instance.api.EndCommandBuffer(r->commands), "a recording", e);
}

/* What the validation layer had to say is an error. */
static enum lm_status heard(struct vk *v, struct lm_err *e)
{
    return v->instance.messages
         ? v->host->fail(e, LM_EBUG, "%u messages of the Vulkan validation layer; the "
                         "first: %s", v->instance.messages, v->instance.message)
         : LM_OK;
}

static enum lm_status submit(struct vk *v, struct vk_recorder *r, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    const VkSubmitInfo info = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                .commandBufferCount = 1, .pCommandBuffers = &r->commands };

    if (v->lost)
        return vk_check(v, VK_ERROR_DEVICE_LOST, "running kernels", e);
    pthread_mutex_lock(&v->queue_lock);
    VkResult x = a->QueueSubmit(v->queue, 1, &info, r->fence);
    pthread_mutex_unlock(&v->queue_lock);
    if (x == VK_SUCCESS)
        x = a->WaitForFences(v->device, 1, &r->fence, VK_TRUE, UINT64_MAX);
    if (x == VK_SUCCESS)
        x = a->ResetFences(v->device, 1, &r->fence);
    enum lm_status st = vk_check(v, x, "running kernels", e);
    return st ? st : heard(v, e);
}

/* ---- kernels ----------------------------------------------------------------------- */

static void push_buffers(struct vk *v, struct vk_recorder *r, const struct gpu_launch *l)
{
    VkDescriptorBufferInfo buffer[GPU_MAX_BIND];
    VkWriteDescriptorSet write[GPU_MAX_BIND];

    for (uint32_t i = 0; i < l->n_bind; i++) {
        const struct vk_memory *m = gpu_memory(&l->bind[i]);

        buffer[i] = (VkDescriptorBufferInfo){ m->buffer, l->bind[i].at, l->bind[i].size };
        write[i] = (VkWriteDescriptorSet){
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstBinding = i,
            .descriptorCount = 1, .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .pBufferInfo = &buffer[i]
        };
    }
    v->instance.api.CmdPushDescriptorSetKHR(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE,
                                            v->layout[l->n_bind], 0, l->n_bind, write);
}

static enum lm_status put_launch(struct vk *v, struct vk_recorder *r,
                                 const struct gpu_launch *l, struct lm_err *e)
{
    const struct vk_api *a = &v->instance.api;
    VkPipeline kernel;
    enum lm_status st = vk_find_pipeline(v, l->kernel, l->n_bind, &kernel, e);

    if (st)
        return st;
    if (l->waits)
        barrier(v, r, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
                VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    a->CmdBindPipeline(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, kernel);
    push_buffers(v, r, l);
    a->CmdPushConstants(r->commands, v->layout[l->n_bind], VK_SHADER_STAGE_COMPUTE_BIT, 0,
                        GPU_MAX_WORDS * 4, l->word);
    a->CmdDispatch(r->commands, l->grid[0], l->grid[1], 1);
    return LM_OK;
}

static void stamp(struct vk *v, struct vk_recorder *r, uint32_t i)
{
    if (r->times)
        v->instance.api.CmdWriteTimestamp(r->commands, i
            ? VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT : VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT,
            r->times, i);
}

static void discard(void *device, struct gpu_recording *r)
{
    struct vk *v = device;

    if (r)
        give_recorder(v, r->recorder);
    v->host->release(r);
}

static enum lm_status record(void *device, const struct gpu_launch *l, size_t n,
                             struct gpu_recording **out, struct lm_err *e)
{
    struct vk *v = device;
    struct vk_recorder *r = NULL;
    struct gpu_recording *x = v->host->alloc(sizeof *x, "recording");

    if (!x)
        return program_no_memory(v->host, sizeof *x, "a recording", e);
    enum lm_status st = take_recorder(v, &r, e);
    if (st) {
        v->host->release(x);
        return st;
    }
    x->recorder = r;
    st = begin(v, r, e);
    if (!st && r->times)
        v->instance.api.CmdResetQueryPool(r->commands, r->times, 0, 2);
    if (!st)
        stamp(v, r, 0);
    for (size_t i = 0; i < n && !st; i++)
        st = put_launch(v, r, &l[i], e);
    if (!st) {
        stamp(v, r, 1);
        st = end(v, r, e);
    }
    if (st)
        discard(v, x);
    else
        *out = x;
    return st;
}

static enum lm_status replay(void *device, struct gpu_recording *x, double *seconds,
                             struct lm_err *e)
{
    struct vk *v = device;
    struct vk_recorder *r = x->recorder;
    uint64_t t[2];
    enum lm_status st = submit(v, r, e);

    *seconds = 0;
    if (st || !r->times)
        return st;
    if (v->instance.api.GetQueryPoolResults(v->device, r->times, 0, 2, sizeof t, t,
                                            sizeof *t, VK_QUERY_RESULT_64_BIT) == VK_SUCCESS)
        *seconds = (double)((t[1] - t[0]) & v->tick_mask) * v->tick * 1e-9;
    return LM_OK;
}

/* ---- transfers --------------------------------------------------------------------- */

static enum lm_status transfer(struct vk *v, struct vk_recorder *r, struct vk_memory *to,
                               uint64_t to_at, const struct vk_memory *from,
                               uint64_t from_at, uint64_t size, struct lm_err *e)
{
    const VkBufferCopy c = { .srcOffset = from_at, .dstOffset = to_at, .size = size };
    enum lm_status st = begin(v, r, e);

    if (st)
        return st;
    v->instance.api.CmdCopyBuffer(r->commands, from->buffer, to->buffer, 1, &c);
    st = end(v, r, e);
    if (!st)
        st = submit(v, r, e);
    v->instance.api.ResetCommandPool(v->device, r->pool, 0);
    return st;
}

static enum lm_status copy(void *device, void *to, uint64_t to_at, void *from,
                           uint64_t from_at, uint64_t size, struct lm_err *e)
{
    struct vk *v = device;
    struct vk_recorder *r = NULL;
    enum lm_status st = take_recorder(v, &r, e);

    if (st)
        return st;
    st = transfer(v, r, to, to_at, from, from_at, size, e);
    give_recorder(v, r);
    return st;
}

/* Pieces by way of the staging buffer. */
static enum lm_status stage(struct vk *v, struct vk_memory *m, uint64_t at, char *to,
                            const char *from, uint64_t size, struct lm_err *e)
{
    struct vk_staging *s = &v->staging;
    enum lm_status st = LM_OK;

    pthread_mutex_lock(&s->lock);
    for (uint64_t i = 0, n; i < size && !st; i += n) {
        n = size - i < STAGING ? size - i : STAGING;
        if (from) {
            memcpy(s->memory->host, from + i, n);
            st = transfer(v, s->recorder, m, at + i, s->memory, 0, n, e);
        } else {
            st = transfer(v, s->recorder, s->memory, 0, m, at + i, n, e);
            memcpy(to + i, s->memory->host, n);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

static enum lm_status put(void *device, void *memory, uint64_t at, const void *from,
                          uint64_t size, struct lm_err *e)
{
    struct vk_memory *m = memory;

    if (!m->host)
        return stage(device, m, at, NULL, from, size, e);
    memcpy(m->host + at, from, size);
    return LM_OK;
}

static enum lm_status get(void *device, void *memory, uint64_t at, void *to, uint64_t size,
                          struct lm_err *e)
{
    struct vk_memory *m = memory;

    if (!m->host)
        return stage(device, m, at, to, NULL, size, e);
    memcpy(to, m->host + at, size);
    return LM_OK;
}

enum lm_status vk_staging_open(struct vk *v, struct lm_err *e)
{
    void *memory;
    enum lm_status st = alloc_memory(v, STAGING, true, &memory, e);

    if (st)
        return st;
    v->staging.memory = memory;
    return take_recorder(v, &v->staging.recorder, e);
}

void vk_queue_close(struct vk *v)
{
    free_memory(v, v->staging.memory);
    free_recorder(v, v->staging.recorder);
    for (struct vk_recorder *r = v->idle, *next; r; r = next) {
        next = r->next;
        free_recorder(v, r);
    }
}

const struct gpu_driver vk_driver = {
    .alloc = alloc_memory, .free = free_memory, .put = put, .get = get, .copy = copy,
    .record = record, .discard = discard, .replay = replay
};

/* SPDX-License-Identifier: Apache-2.0 */
/* vk.h -- what the files of the backend `vulkan` share: a device opened at run time.
 * The loader library is opened with dlopen(), so the plugin builds without one and loads
 * where there is none; only the headers are needed.                                 */
#ifndef LAMINA_BACKENDS_VK_H
#define LAMINA_BACKENDS_VK_H
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "gpu.h"

/* Functions, by what they are asked of: nothing, an instance, a device. */
/* EnumerateInstanceVersion is not called: only 1.1 and later have it. */
#define VK_GLOBAL(F) F(CreateInstance) F(EnumerateInstanceVersion) \
    F(EnumerateInstanceLayerProperties)
#define VK_INSTANCE(F) F(DestroyInstance) F(EnumeratePhysicalDevices) \
    F(GetPhysicalDeviceProperties2) F(GetPhysicalDeviceFeatures2) \
    F(GetPhysicalDeviceMemoryProperties2) F(GetPhysicalDeviceQueueFamilyProperties) \
    F(EnumerateDeviceExtensionProperties) F(CreateDevice) F(GetDeviceProcAddr)
#define VK_DEVICE(F) F(DestroyDevice) F(GetDeviceQueue) F(DeviceWaitIdle) \
    F(CreateShaderModule) F(DestroyShaderModule) F(CreateDescriptorSetLayout) \
    F(DestroyDescriptorSetLayout) F(CreatePipelineLayout) F(DestroyPipelineLayout) \
    F(CreatePipelineCache) F(DestroyPipelineCache) \
    F(CreateComputePipelines) F(DestroyPipeline) F(CreateBuffer) F(DestroyBuffer) \
    F(GetBufferMemoryRequirements) F(AllocateMemory) F(FreeMemory) F(BindBufferMemory) \
    F(MapMemory) F(CreateCommandPool) F(DestroyCommandPool) F(ResetCommandPool) \
    F(AllocateCommandBuffers) F(BeginCommandBuffer) F(EndCommandBuffer) F(CreateFence) \
    F(DestroyFence) F(ResetFences) F(WaitForFences) F(QueueSubmit) F(CreateQueryPool) \
    F(DestroyQueryPool) F(GetQueryPoolResults) F(CmdResetQueryPool) \
    F(CmdWriteTimestamp) F(CmdPipelineBarrier) F(CmdBindPipeline) F(CmdPushConstants) \
    F(CmdPushDescriptorSetKHR) F(CmdDispatch) F(CmdCopyBuffer)
#define VK_MEMBER(name) PFN_vk##name name;

struct vk_api {
    void *library;
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
    VK_GLOBAL(VK_MEMBER)
    VK_INSTANCE(VK_MEMBER)
    VK_DEVICE(VK_MEMBER)
};

/* One of a machine's devices, in the order in which an option counts them: those with a
 * memory of their own, those that share it, others, and last software.              */
struct vk_found {
    VkPhysicalDevice device;
    VkPhysicalDeviceProperties properties;
    char driver[64];
    uint64_t memory;                    /* of the heap where weights go */
};
enum { VK_MOST_DEVICES = 16 };

struct vk_instance {
    struct vk_api api;
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    _Atomic uint32_t messages;          /* of the validation layer */
    char     message[512];              /* the first of them */
    pthread_mutex_t lock;               /* of these */
    struct vk_found found[VK_MOST_DEVICES];
    uint32_t n_found;
};
/* LM_EUNAVAILABLE: "no Vulkan device (...)". */
enum lm_status vk_instance_open(const struct lm_host *h, bool validate,
                                struct vk_instance *v, struct lm_err *e);
void vk_instance_close(struct vk_instance *v);
void vk_describe(const struct vk_found *f, struct lm_device *out);

enum vk_features { VK_FEATURES_AUTO, VK_FEATURES_PLAIN, VK_FEATURES_ALL };
struct vk_choice {                      /* what is asked of a device */
    int64_t  device;
    bool     software, validate, half, staging;
    int64_t  features;                  /* enum vk_features */
};

/* What slabs are. */
#define VK_OUR_BUFFER(n) {                                                              \
    .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = n,                           \
    .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT      \
           | VK_BUFFER_USAGE_TRANSFER_DST_BIT,                                          \
    .sharingMode = VK_SHARING_MODE_EXCLUSIVE }

struct vk_recorder;                     /* see vk_queue.c */
struct vk_staging {                     /* for memory that the host does not reach */
    pthread_mutex_t lock;
    struct vk_memory *memory;
    struct vk_recorder *recorder;
};
struct vk {
    const struct lm_host *host;
    struct vk_instance instance;
    const struct vk_found *found;
    VkExtensionProperties *extension;   /* [n_extension] of it */
    uint32_t n_extension;
    VkDevice device;
    bool     complete;                  /* all its functions were found */
    VkQueue  queue;
    uint32_t family, type, shared_type; /* memory types: of weights, of GPU_SHARED */
    bool     mapped, cached;            /* the host reaches the first, too; and caches
                                           what it reads of it */
    bool     half, subgroup, dot;       /* variants of kernels */
    double   tick;                      /* ns of a timestamp; 0: there are none */
    uint64_t tick_mask;
    struct gpu_limits limits;
    VkPipelineCache cache;
    VkDescriptorSetLayout set[GPU_MAX_BIND + 1];    /* by number of bindings */
    VkPipelineLayout layout[GPU_MAX_BIND + 1];
    VkPipeline pipeline[GPU_N_KERNELS]; /* made at the first use, under `lock` */
    pthread_mutex_t lock;
    pthread_mutex_t queue_lock;
    struct vk_recorder *idle;           /* under `lock` */
    struct vk_staging staging;
    _Atomic bool lost;
};

/* vk_open.c */
enum lm_status vk_open(struct vk *v, const struct lm_host *h, const struct vk_choice *c,
                       struct lm_err *e);
void vk_close(struct vk *v);
/* vk_pipeline.c */
enum lm_status vk_layouts_open(struct vk *v, struct lm_err *e);
enum lm_status vk_find_pipeline(struct vk *v, uint32_t kernel, uint32_t n_bind,
                                VkPipeline *out, struct lm_err *e);
void vk_pipelines_close(struct vk *v);
/* vk_queue.c */
extern const struct gpu_driver vk_driver;
enum lm_status vk_staging_open(struct vk *v, struct lm_err *e);
void vk_queue_close(struct vk *v);      /* staging and idle recorders */
/* What a result means; LM_OK for VK_SUCCESS. */
enum lm_status vk_check(struct vk *v, VkResult r, const char *what, struct lm_err *e);
#endif

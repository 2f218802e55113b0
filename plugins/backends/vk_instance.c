/* SPDX-License-Identifier: Apache-2.0 */
/* vk_instance.c -- the Vulkan loader, an instance, and the devices it knows. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vk.h"

static enum lm_status unavailable(const struct lm_host *h, const char *why,
                                  struct lm_err *e)
{
    return h->fail(e, LM_EUNAVAILABLE, "no Vulkan device (%s)", why);
}

/* ---- the library ------------------------------------------------------------------- */

#define FIND(name) \
    a->name = (PFN_vk##name)a->GetInstanceProcAddr(instance, "vk" #name); \
    complete &= a->name != NULL;

static bool find_global(struct vk_api *a)
{
    VkInstance instance = VK_NULL_HANDLE;
    bool complete = true;

    VK_GLOBAL(FIND)
    return complete;
}

static bool find_instance(struct vk_api *a, VkInstance instance)
{
    bool complete = true;

    VK_INSTANCE(FIND)
    return complete;
}

static enum lm_status load(const struct lm_host *h, struct vk_api *a, struct lm_err *e)
{
    a->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!a->library)
        return unavailable(h, "the loader libvulkan.so.1 was not found", e);
    void *entry = dlsym(a->library, "vkGetInstanceProcAddr");
    memcpy(&a->GetInstanceProcAddr, &entry, sizeof entry);
    if (!entry || !find_global(a))
        return unavailable(h, "libvulkan.so.1 is older than Vulkan 1.1", e);
    return LM_OK;
}

/* ---- the validation layer ---------------------------------------------------------- */

static const char layer_name[] = "VK_LAYER_KHRONOS_validation";

static VKAPI_ATTR VkBool32 VKAPI_CALL
on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
           VkDebugUtilsMessageTypeFlagsEXT type,
           const VkDebugUtilsMessengerCallbackDataEXT *data, void *ctx)
{
    struct vk_instance *v = ctx;

    (void)severity, (void)type;
    pthread_mutex_lock(&v->lock);
    if (v->messages == 0)
        snprintf(v->message, sizeof v->message, "%s", data->pMessage);
    v->messages++;                      /* the text is complete when others see it */
    pthread_mutex_unlock(&v->lock);
    return VK_FALSE;
}

static bool has_layer(struct vk_api *a)
{
    VkLayerProperties layer[64];
    uint32_t n = 64;

    if (a->EnumerateInstanceLayerProperties(&n, layer) < 0)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(layer[i].layerName, layer_name))
            return true;
    return false;
}

static enum lm_status watch(const struct lm_host *h, struct vk_instance *v,
                            const VkDebugUtilsMessengerCreateInfoEXT *info,
                            struct lm_err *e)
{
    PFN_vkCreateDebugUtilsMessengerEXT create = (PFN_vkCreateDebugUtilsMessengerEXT)
        v->api.GetInstanceProcAddr(v->instance, "vkCreateDebugUtilsMessengerEXT");

    if (!create || create(v->instance, info, NULL, &v->messenger) != VK_SUCCESS)
        return h->fail(e, LM_EFAILED, "the validation layer cannot be listened to");
    return LM_OK;
}

/* ---- devices ----------------------------------------------------------------------- */

static int rank(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:   return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 1;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:            return 3;
    default:                                     return 2;
    }
}

/* The largest heap of the device's own. */
static uint64_t memory_of(const struct vk_api *a, VkPhysicalDevice d)
{
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2
    };
    uint64_t most = 0;

    a->GetPhysicalDeviceMemoryProperties2(d, &m);
    for (uint32_t i = 0; i < m.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &m.memoryProperties.memoryHeaps[i];

        if (heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT && heap->size > most)
            most = heap->size;
    }
    return most;
}

static struct vk_found look_at(const struct vk_api *a, VkPhysicalDevice d)
{
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES
    };
    VkPhysicalDeviceProperties2 p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &driver
    };
    struct vk_found f = { .device = d };

    a->GetPhysicalDeviceProperties2(d, &p);
    f.properties = p.properties;
    f.memory = memory_of(a, d);
    snprintf(f.driver, sizeof f.driver, "%.28s %.34s", driver.driverName,
             driver.driverInfo);
    return f;
}

static void find_devices(struct vk_instance *v, VkPhysicalDevice *device, uint32_t n)
{
    for (int order = 0; order <= 3; order++)
        for (uint32_t i = 0; i < n; i++) {
            struct vk_found f = look_at(&v->api, device[i]);

            if (rank(f.properties.deviceType) == order)
                v->found[v->n_found++] = f;
        }
}

void vk_describe(const struct vk_found *f, struct lm_device *out)
{
    *out = (struct lm_device){ .struct_size = sizeof *out, .memory = (int64_t)f->memory,
        .software = f->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU };
    snprintf(out->name, sizeof out->name, "%.80s", f->properties.deviceName);
    snprintf(out->driver, sizeof out->driver, "%s", f->driver);
}

/* ---- open and close ---------------------------------------------------------------- */

static enum lm_status create(const struct lm_host *h, struct vk_instance *v,
                             bool validate, struct lm_err *e)
{
    static const char *const extension[] = { VK_EXT_DEBUG_UTILS_EXTENSION_NAME };
    static const char *const layer[] = { layer_name };
    static const VkValidationFeatureEnableEXT enable[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
    };
    const VkDebugUtilsMessengerCreateInfoEXT listen = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT
                         | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = on_message, .pUserData = v
    };
    const VkValidationFeaturesEXT features = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT, .pNext = &listen,
        .enabledValidationFeatureCount = 1, .pEnabledValidationFeatures = enable
    };
    const VkApplicationInfo app = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                    .pApplicationName = "lamina",
                                    .apiVersion = VK_API_VERSION_1_3 };
    VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                  .pApplicationInfo = &app };

    if (validate) {
        if (!has_layer(&v->api))
            return h->fail(e, LM_EUNAVAILABLE, "the validation layer %s is not installed",
                           layer_name);
        info.pNext = &features;
        info.enabledLayerCount = info.enabledExtensionCount = 1;
        info.ppEnabledLayerNames = layer;
        info.ppEnabledExtensionNames = extension;
    }
    VkResult r = v->api.CreateInstance(&info, NULL, &v->instance);
    if (r == VK_ERROR_INCOMPATIBLE_DRIVER)
        return unavailable(h, "no driver was found", e);
    if (r != VK_SUCCESS || !find_instance(&v->api, v->instance))
        return unavailable(h, "an instance cannot be created", e);
    return validate ? watch(h, v, &listen, e) : LM_OK;
}

enum lm_status vk_instance_open(const struct lm_host *h, bool validate,
                                struct vk_instance *v, struct lm_err *e)
{
    VkPhysicalDevice device[VK_MOST_DEVICES];
    uint32_t n = VK_MOST_DEVICES;
    pthread_mutex_init(&v->lock, NULL);
    enum lm_status st = load(h, &v->api, e);

    if (!st)
        st = create(h, v, validate, e);
    if (!st && v->api.EnumeratePhysicalDevices(v->instance, &n, device) < 0)
        st = unavailable(h, "devices cannot be listed", e);
    if (!st)
        find_devices(v, device, n);
    if (!st && v->n_found == 0)
        st = unavailable(h, "drivers are installed, but none has a device", e);
    if (st)
        vk_instance_close(v);
    return st;
}

/* The library stays: drivers that it has opened have threads of their own. */
void vk_instance_close(struct vk_instance *v)
{
    if (v->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy
            = (PFN_vkDestroyDebugUtilsMessengerEXT)v->api.GetInstanceProcAddr(
                v->instance, "vkDestroyDebugUtilsMessengerEXT");

        destroy(v->instance, v->messenger, NULL);
    }
    if (v->instance && v->api.DestroyInstance)
        v->api.DestroyInstance(v->instance, NULL);
    v->instance = VK_NULL_HANDLE;
    v->messenger = VK_NULL_HANDLE;
}

/* A plugin with exactly one defect, chosen when it is compiled; without a choice it is sound. */
#include <connect/plugin.h>
#include <string.h>

static int32_t create(const connectd_host* h, void** self) {
  (void)h;
  *self = NULL;
  return CONNECTD_OK;
}
static void destroy(void* self) { (void)self; }
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)self, (void)r, (void)reply;
  return CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* c, connectd_bytes r,
                          const connectd_sink* reply) {
  (void)self, (void)c, (void)r, (void)reply;
  return CONNECTD_OK;
}
static int32_t apply(void* self, const connectd_apply_context* c, connectd_bytes r,
                     const connectd_sink* reply) {
  (void)self, (void)c, (void)r, (void)reply;
  return CONNECTD_OK;
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  (void)self, (void)s, (void)out;
  return CONNECTD_OK;
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  (void)self, (void)s, (void)in;
  return CONNECTD_OK;
}

static int64_t next_deadline(const void* self) {
  (void)self;
  return INT64_MAX;
}
static int32_t begin(void* self, const connectd_snapshot* s, void** view) {
  (void)self, (void)s, (void)view;
  return CONNECTD_OK;
}
static void end(void* self, void* view) { (void)self, (void)view; }
static const void* get_extension(const char* id) {
#ifdef BAD_timers
  static const connectd_ext_timers timers = {sizeof(connectd_ext_timers), 0, next_deadline, NULL};
  (void)id, (void)begin, (void)end;
  return &timers;
#elif defined(BAD_view)
  static const connectd_ext_snapshot_view views = {sizeof(connectd_ext_snapshot_view), 0, begin,
                                                   NULL, end};
  (void)next_deadline;
  return strcmp(id, CONNECTD_EXT_SNAPSHOT_VIEW) == 0 ? &views : NULL;
#else
  (void)id, (void)next_deadline, (void)begin, (void)end;
  return NULL;
#endif
}

static connectd_plugin plugin = {
    CONNECTD_PLUGIN_HEAD("sound", "3.2.1", 1, 1, 0, CONNECTD_FRAMING_LINE),
    create,
    destroy,
    classify,
    read_value,
    apply,
    snapshot,
    restore,
    get_extension};

#if defined(BAD_symbol)
CONNECTD_EXPORT const connectd_plugin* another_name(void);
const connectd_plugin* another_name(void) {
#elif defined(BAD_only_v2)
CONNECTD_EXPORT const connectd_plugin* connectd_plugin_v2(void);
const connectd_plugin* connectd_plugin_v2(void) {
#else
const connectd_plugin* connectd_plugin_v1(void) {
#endif
#if defined(BAD_null)
  (void)plugin;
  return NULL;
#else
#if defined(BAD_major)
  plugin.abi = ((CONNECTD_ABI_MAJOR + 1) << 16) | 4;
#elif defined(BAD_minor) /* not bad: structs only grow */
  plugin.abi = CONNECTD_ABI + 7;
  plugin.size = sizeof plugin + 64;
#elif defined(BAD_size)
  plugin.size = sizeof plugin - 8;
#elif defined(BAD_name)
  plugin.name = "Counter 2";
#elif defined(BAD_long_name)
  plugin.name = "a23456789.123456789.123456789.123456789.123456789.123456789.12345";
#elif defined(BAD_no_name)
  plugin.name = NULL;
#elif defined(BAD_version)
  plugin.version = "";
#elif defined(BAD_levels)
  plugin.level_min = 3, plugin.level_max = 2;
#elif defined(BAD_level_zero)
  plugin.level_min = 0;
#elif defined(BAD_demand)
  plugin.flags = (1ull << 5) | (1ull << 31) | (1ull << 63);
#elif defined(BAD_permission) /* not bad: permissions may be ignored */
  plugin.flags = 1ull << 63;
#elif defined(BAD_framing)
  plugin.framing = 9;
#elif defined(BAD_no_apply)
  plugin.apply = NULL;
#elif defined(BAD_no_restore)
  plugin.restore = NULL;
#elif defined(BAD_no_read)
  plugin.read = NULL;
#endif
  return &plugin;
#endif
}

/* The counter: a request that begins with "incr" adds one, every other one reads. Both reply the
 * value and a line end. The state is one number, and starts at plugin.options.start, or 0. */
#include <connect/plugin.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t create(const connectd_host* h, void** self) {
  static const char kWrong[] = "plugin.options.start must be a whole number, at least 0";
  const char* start = h->option(h, "start");
  char* end = NULL;
  uint64_t* value = *self = calloc(1, sizeof *value);
  if (!value) return CONNECTD_E_NOMEM;
  if (start) *value = strtoull(start, &end, 10);
  if (!start || (*start >= '0' && *start <= '9' && *end == '\0')) return CONNECTD_OK;
  free(value);
  return h->fail(h, CONNECTD_E_CONFIG, kWrong, sizeof kWrong - 1);
}
static void destroy(void* self) { free(self); }
static int32_t answer(const uint64_t* value, const connectd_sink* reply) {
  char text[24];
  return connectd_put(reply, text, (size_t)snprintf(text, sizeof text, "%" PRIu64 "\n", *value));
}
static int32_t classify(const void* v, connectd_bytes r, const connectd_sink* out) {
  return (void)v, (void)out, r.len < 4 || memcmp(r.ptr, "incr", 4) ? CONNECTD_READ : CONNECTD_WRITE;
}
static int32_t read_value(const void* self, const connectd_read_context* c, connectd_bytes r,
                          const connectd_sink* reply) {
  return (void)c, (void)r, answer(self, reply);
}
static int32_t apply(void* self, const connectd_apply_context* c, connectd_bytes r,
                     const connectd_sink* reply) {
  return (void)c, (void)r, ++*(uint64_t*)self, answer(self, reply);
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  return (void)s, connectd_put_u64(out, *(uint64_t*)self);
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  return (void)s, connectd_get_u64(in, self);
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("counter", "1.0.0", 1, 1,
                                            CONNECTD_F_CANONICAL_SNAPSHOT |
                                                CONNECTD_F_FORK_SNAPSHOT,
                                            CONNECTD_FRAMING_LINE),
                       create, destroy, classify, read_value, apply, snapshot, restore, NULL);

/* A state machine that is wrong on purpose: a counter whose "incr" adds a random number from the
 * operating system, 1 to 256. Replicas that apply the same entry reply differently, and so do two
 * lives of one replica. Any other request reads. What finds divergence must find this one. */
#define _DEFAULT_SOURCE
#include <connect/plugin.h>
#include <stdlib.h>
#include <unistd.h>

static int32_t create(const connectd_host* h, void** self) {
  (void)h;
  *self = calloc(1, sizeof(uint64_t));
  return *self ? CONNECTD_OK : CONNECTD_E_NOMEM;
}
static void destroy(void* self) { free(self); }
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)self, (void)reply;
  return connectd_begins_with(r, "incr") ? CONNECTD_WRITE : CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* c, connectd_bytes r,
                          const connectd_sink* reply) {
  (void)c, (void)r;
  return connectd_put_decimal(reply, *(const uint64_t*)self, "\n");
}
static int32_t apply(void* self, const connectd_apply_context* c, connectd_bytes r,
                     const connectd_sink* reply) {
  uint64_t* value = self;
  uint8_t random;
  (void)c, (void)r;
  if (getentropy(&random, sizeof random) != 0) return CONNECTD_E_FAULT;
  *value += 1 + (uint64_t)random;
  return connectd_put_decimal(reply, *value, "\n");
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  (void)s;
  return connectd_put_u64(out, *(uint64_t*)self);
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  (void)s;
  return connectd_get_u64(in, self);
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("random", "1.0.0", 1, 1, CONNECTD_F_CANONICAL_SNAPSHOT,
                                            CONNECTD_FRAMING_LINE),
                       create, destroy, classify, read_value, apply, snapshot, restore, NULL);

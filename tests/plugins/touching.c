/* A counter that is wrong on purpose: some of its reads change a hidden part of the state, which no
 * reply ever shows and every snapshot has. What checks that reads change nothing must find it.
 *   "incr"  adds one
 *   "get"   a read that counts itself
 *   "look"  the same as a read of the present state of one replica
 *   "test"  a read whose classify counts itself
 *   others  reads that change nothing */
#include <connect/plugin.h>
#include <stdlib.h>

typedef struct counter {
  uint64_t value, touched;
} counter;

static int32_t create(const connectd_host* h, void** self) {
  (void)h;
  *self = calloc(1, sizeof(counter));
  return *self ? CONNECTD_OK : CONNECTD_E_NOMEM;
}
static void destroy(void* self) { free(self); }
static void touch(const void* self) { ((counter*)self)->touched++; }
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)reply;
  if (connectd_begins_with(r, "incr")) return CONNECTD_WRITE;
  if (connectd_begins_with(r, "test")) touch(self);
  return connectd_begins_with(r, "look") ? CONNECTD_READ_LOCAL : CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* c, connectd_bytes r,
                          const connectd_sink* reply) {
  (void)c;
  if (connectd_begins_with(r, "get") || connectd_begins_with(r, "look")) touch(self);
  return connectd_put_decimal(reply, ((const counter*)self)->value, "\n");
}
static int32_t apply(void* self, const connectd_apply_context* c, connectd_bytes r,
                     const connectd_sink* reply) {
  counter* at = self;
  (void)c, (void)r;
  return connectd_put_decimal(reply, ++at->value, "\n");
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  const counter* at = self;
  int32_t put = connectd_put_u64(out, at->value);
  (void)s;
  return put ? put : connectd_put_u64(out, at->touched);
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  counter* at = self;
  int32_t got = connectd_get_u64(in, &at->value);
  (void)s;
  return got ? got : connectd_get_u64(in, &at->touched);
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("touching", "1.0.0", 1, 1,
                                            CONNECTD_F_CANONICAL_SNAPSHOT, CONNECTD_FRAMING_LINE),
                       create, destroy, classify, read_value, apply, snapshot, restore, NULL);

/* A counter with a bug: it fails on a command that says so, on every replica and at each start.
 *   incr       adds one, replies the value
 *   fail       apply returns an error
 *   crash      apply crashes */
#include <connect/plugin.h>
#include <stdlib.h>
#include <string.h>

typedef struct counter {
  const connectd_host* host;
  uint64_t value;
} counter;

static int32_t create(const connectd_host* h, void** self) {
  counter* c = calloc(1, sizeof *c);
  if (!c) return CONNECTD_E_NOMEM;
  c->host = h;
  *self = c;
  return CONNECTD_OK;
}
static void destroy(void* self) { free(self); }
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)self, (void)reply;
  return connectd_begins_with(r, "incr") || connectd_begins_with(r, "fail") ||
                 connectd_begins_with(r, "crash")
             ? CONNECTD_WRITE
             : CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* context, connectd_bytes r,
                          const connectd_sink* reply) {
  (void)context, (void)r;
  return connectd_put_decimal(reply, ((const counter*)self)->value, "\n");
}
static int32_t apply(void* self, const connectd_apply_context* context, connectd_bytes r,
                     const connectd_sink* reply) {
  counter* c = self;
  (void)context;
  if (connectd_begins_with(r, "fail"))
    return c->host->fail(c->host, CONNECTD_E_FAULT, "the bug that it has", 19);
  if (connectd_begins_with(r, "crash")) abort();
  ++c->value;
  return connectd_put_decimal(reply, c->value, "\n");
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  (void)s;
  return connectd_put_u64(out, ((counter*)self)->value);
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  (void)s;
  return connectd_get_u64(in, &((counter*)self)->value);
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("poisoned", "1.0.0", 1, 1,
                                            CONNECTD_F_CANONICAL_SNAPSHOT, CONNECTD_FRAMING_LINE),
                       create, destroy, classify, read_value, apply, snapshot, restore, NULL);

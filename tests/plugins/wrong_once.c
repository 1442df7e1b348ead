/* A counter that is wrong once, where the environment of its process says so: what a bug that
 * depends on the machine looks like. Replicas without these variables are right.
 *   WRONG_REPLY=50:oops   the "incr" that makes the value 50 replies "oops", and the state is right
 *   WRONG_STATE=50        at the value 50 a hidden part of the state changes, and no reply ever
 * differs */
#include <connect/plugin.h>
#include <stdlib.h>
#include <string.h>

typedef struct counter {
  uint64_t value;
  uint64_t hidden;
  uint64_t wrong_reply_at;
  uint64_t wrong_state_at;
  const char* wrong_reply;
} counter;

static int32_t create(const connectd_host* h, void** self) {
  const char* reply = getenv("WRONG_REPLY");
  const char* state = getenv("WRONG_STATE");
  counter* c = calloc(1, sizeof *c);
  (void)h;
  if (!c) return CONNECTD_E_NOMEM;
  if (reply && strchr(reply, ':')) {
    c->wrong_reply_at = strtoull(reply, NULL, 10);
    c->wrong_reply = strchr(reply, ':') + 1;
  }
  if (state) c->wrong_state_at = strtoull(state, NULL, 10);
  *self = c;
  return CONNECTD_OK;
}
static void destroy(void* self) { free(self); }
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)self, (void)reply;
  return connectd_begins_with(r, "incr") ? CONNECTD_WRITE : CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* context, connectd_bytes r,
                          const connectd_sink* reply) {
  (void)context, (void)r;
  return connectd_put_decimal(reply, ((const counter*)self)->value, "\n");
}
static int32_t apply(void* self, const connectd_apply_context* context, connectd_bytes r,
                     const connectd_sink* reply) {
  counter* c = self;
  int32_t put;
  (void)context, (void)r;
  ++c->value;
  if (c->value == c->wrong_state_at) c->hidden = 1;
  if (c->value != c->wrong_reply_at) return connectd_put_decimal(reply, c->value, "\n");
  put = connectd_put(reply, c->wrong_reply, strlen(c->wrong_reply));
  return put ? put : connectd_put(reply, "\n", 1);
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  const counter* c = self;
  int32_t put = connectd_put_u64(out, c->value);
  (void)s;
  return put ? put : connectd_put_u64(out, c->hidden);
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  counter* c = self;
  int32_t got = connectd_get_u64(in, &c->value);
  (void)s;
  return got ? got : connectd_get_u64(in, &c->hidden);
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("wrong-once", "1.0.0", 1, 1,
                                            CONNECTD_F_CANONICAL_SNAPSHOT, CONNECTD_FRAMING_LINE),
                       create, destroy, classify, read_value, apply, snapshot, restore, NULL);

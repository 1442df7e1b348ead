/* The counter: "incr" adds one, every other request reads; both reply with the value, one line. */
#include <connect/plugin.h>
#include <stdlib.h>

static int32_t create(const connectd_host* host, void** self) {
  uint64_t* value = calloc(1, sizeof *value);
  if (value == NULL) return CONNECTD_E_NOMEM;
  int32_t code = connectd_option_u64(host, "start", value); /* without this option it stays 0 */
  *self = value;
  if (code != CONNECTD_OK) free(value); /* then the host does not call destroy */
  return code;
}

/* What is this request? Decided from its bytes alone, before anything else happens to it. */
static int32_t classify(const void* self, connectd_bytes request, const connectd_sink* reply) {
  (void)self, (void)reply;
  return connectd_begins_with(request, "incr") ? CONNECTD_WRITE : CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* context,
                          connectd_bytes request, const connectd_sink* reply) {
  (void)context, (void)request;
  const uint64_t* value = self;
  return connectd_put_decimal(reply, *value, "\n");
}
/* Every node applies the same writes in the same order, so all have the same value. */
static int32_t apply(void* self, const connectd_apply_context* context, connectd_bytes command,
                     const connectd_sink* reply) {
  (void)context, (void)command;
  uint64_t* value = self;
  *value += 1;
  return connectd_put_decimal(reply, *value, "\n");
}
/* The whole state out, and back into a fresh instance. */
static int32_t snapshot(void* self, const connectd_snapshot* info, const connectd_sink* out) {
  (void)info;
  const uint64_t* value = self;
  return connectd_put_u64(out, *value);
}
static int32_t restore(void* self, const connectd_snapshot* info, const connectd_source* in) {
  (void)info;
  return connectd_get_u64(in, self);
}
#define FLAGS (CONNECTD_F_CANONICAL_SNAPSHOT | CONNECTD_F_FORK_SNAPSHOT)
CONNECTD_EXPORT_PLUGIN(CONNECTD_LINE_PLUGIN_HEAD("counter", "1.0.0", FLAGS), create, free, classify,
                       read_value, apply, snapshot, restore, NULL);

/* The hash chain: a state that depends on every command, on its place in the log and on the order.
 * Whatever is lost, doubled, swapped or applied at another index changes every later reply.
 *
 *   "add ANYTHING"  a write: state = H(state, index, request); replies the new state, 16 hex digits
 *   any other       a read: replies the state and how many writes made it: "0123456789abcdef 7"
 *
 * H(state, index, request): FNV-1a with 64 bits over state, index and length, 8 bytes each and
 * little-endian, then the request; at the end the three steps of splitmix64's finalizer, so that
 * one changed bit changes half of the state. The first state is 0. */
#include <connect/plugin.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef CHAIN_FRAMING
#define CHAIN_FRAMING CONNECTD_FRAMING_LINE
#endif

typedef struct chain {
  uint64_t state, writes;
} chain;

static uint64_t add_byte(uint64_t h, uint8_t byte) { return (h ^ byte) * 0x100000001b3u; }
static uint64_t add_number(uint64_t h, uint64_t number) {
  int i;
  for (i = 0; i < 8; i++) h = add_byte(h, (uint8_t)(number >> (8 * i)));
  return h;
}
static uint64_t next_state(uint64_t state, uint64_t index, connectd_bytes request) {
  uint64_t h = 0xcbf29ce484222325u;
  size_t i;
  h = add_number(add_number(add_number(h, state), index), request.len);
  for (i = 0; i < request.len; i++) h = add_byte(h, request.ptr[i]);
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  return h ^ (h >> 31);
}

static int32_t create(const connectd_host* h, void** self) {
  (void)h;
  *self = calloc(1, sizeof(chain));
  return *self ? CONNECTD_OK : CONNECTD_E_NOMEM;
}
static void destroy(void* self) { free(self); }
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)self, (void)reply;
  return r.len >= 4 && !memcmp(r.ptr, "add ", 4) ? CONNECTD_WRITE : CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* c, connectd_bytes r,
                          const connectd_sink* reply) {
  const chain* at = self;
  char text[48];
  (void)c, (void)r;
  return connectd_put(
      reply, text,
      (size_t)snprintf(text, sizeof text, "%016" PRIx64 " %" PRIu64 "\n", at->state, at->writes));
}
static int32_t apply(void* self, const connectd_apply_context* c, connectd_bytes r,
                     const connectd_sink* reply) {
  chain* at = self;
  char text[24];
  at->state = next_state(at->state, c->index, r);
  at->writes++;
  return connectd_put(reply, text,
                      (size_t)snprintf(text, sizeof text, "%016" PRIx64 "\n", at->state));
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  const chain* at = self;
  int32_t rc = connectd_put_u64(out, at->state);
  (void)s;
  return rc == CONNECTD_OK ? connectd_put_u64(out, at->writes) : rc;
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  chain* at = self;
  int32_t rc = connectd_get_u64(in, &at->state);
  (void)s;
  return rc == CONNECTD_OK ? connectd_get_u64(in, &at->writes) : rc;
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("chain", "1.0.0", 1, 1, CONNECTD_F_CANONICAL_SNAPSHOT,
                                            CHAIN_FRAMING),
                       create, destroy, classify, read_value, apply, snapshot, restore, NULL);

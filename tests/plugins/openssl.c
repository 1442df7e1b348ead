/* A counter that uses the process's OpenSSL as no guest should. Each command adds one, too, and
 * replies the value; other requests than these and "incr" read it.
 *   do queue    leaves errors in this thread's queue
 *   do thread   drops what OpenSSL keeps for this thread
 *   do null     takes all algorithms from the default library context
 *   do cleanup  OPENSSL_cleanup(), as the linker binds it
 *   do bypass   the same, found in libcrypto by dlsym() */
#define _GNU_SOURCE
#include <connect/plugin.h>
#include <dlfcn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <stdlib.h>
#include <string.h>

static int says(connectd_bytes r, const char* text) {
  return r.len == strlen(text) && !memcmp(r.ptr, text, r.len);
}
static void queue_errors(void) {
  for (int i = 0; i < 20; i++) ERR_raise(ERR_LIB_SSL, ERR_R_INTERNAL_ERROR);
}
static void call_found_cleanup(void) {
  void* library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_NOLOAD);
  void (*cleanup)(void) = NULL;
  if (library) *(void**)&cleanup = dlsym(library, "OPENSSL_cleanup");
  if (cleanup) cleanup();
}
static void misuse(connectd_bytes r) {
  if (says(r, "do queue")) queue_errors();
  if (says(r, "do thread")) OPENSSL_thread_stop();
  if (says(r, "do null")) {
    OSSL_PROVIDER_load(NULL, "null");
    EVP_set_default_properties(NULL, "provider=none,fips=yes");
  }
  if (says(r, "do cleanup")) OPENSSL_cleanup();
  if (says(r, "do bypass")) call_found_cleanup();
}

static int32_t create(const connectd_host* h, void** self) {
  (void)h;
  *self = calloc(1, sizeof(uint64_t));
  return *self ? CONNECTD_OK : CONNECTD_E_NOMEM;
}
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)self, (void)reply;
  return says(r, "incr") || connectd_begins_with(r, "do ") ? CONNECTD_WRITE : CONNECTD_READ;
}
static int32_t read_value(const void* self, const connectd_read_context* c, connectd_bytes r,
                          const connectd_sink* reply) {
  (void)c, (void)r;
  return connectd_put_decimal(reply, *(const uint64_t*)self, "\n");
}
static int32_t apply(void* self, const connectd_apply_context* c, connectd_bytes r,
                     const connectd_sink* reply) {
  uint64_t* value = self;
  (void)c;
  misuse(r);
  return connectd_put_decimal(reply, ++*value, "\n");
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  (void)s;
  return connectd_put_u64(out, *(uint64_t*)self);
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  (void)s;
  return connectd_get_u64(in, self);
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("openssl", "1.0.0", 1, 1, CONNECTD_F_CANONICAL_SNAPSHOT,
                                            CONNECTD_FRAMING_LINE),
                       create, free, classify, read_value, apply, snapshot, restore, NULL);

/* A counter that does to its process what it must not, when a command or plugin.options.on says so.
 *   incr               adds one, replies the value
 *   get                replies the value
 *   big, get big       reply 32 MiB
 *   do KIND            in apply
 *   get KIND           in read
 *   classify KIND      in classify
 *   loop where told    in apply of a node with UNRULY_LOOPS
 *   honest             opens and closes a file and ends a thread of its own; replies the value */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <connect/plugin.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

typedef struct counter {
  const connectd_host* host;
  uint64_t value;
} counter;

static char big[32 << 20]; /* not written: it costs no memory */

static int says(connectd_bytes r, const char* kind) {
  return r.len == strlen(kind) && !memcmp(r.ptr, kind, r.len);
}
static void* end_the_process(void* unused) {
  (void)unused;
  exit(0);
}
static void* end_this_thread(void* unused) { pthread_exit(unused); }
static void loop_forever(void) {
  static atomic_int forever = 1;
  while (forever) {
  }
}
static void sleep_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}
static void misbehave(connectd_bytes kind) {
  pthread_t thread;
  if (says(kind, "exit")) exit(0);
  if (says(kind, "_exit")) _exit(0);
  if (says(kind, "_Exit")) _Exit(3);
  if (says(kind, "quick_exit")) quick_exit(0);
  if (says(kind, "errx")) errx(1, "no way to go on"); /* exit() is called by the C library */
  if (says(kind, "pthread_exit")) pthread_exit(NULL);
  if (says(kind, "thrd_exit")) thrd_exit(0);
  if (says(kind, "thread") && !pthread_create(&thread, NULL, end_the_process, NULL)) {
    pthread_join(thread, NULL);
  }
  if (says(kind, "close")) {
    for (int fd = 3; fd < 64; ++fd) close(fd);
  }
  if (says(kind, "close_range")) close_range(3, ~0U, 0);
  if (says(kind, "closefrom")) closefrom(3);
  if (says(kind, "stderr")) close(2);
  if (says(kind, "fclose")) fclose(stderr); /* close() is called by the C library */
  if (says(kind, "dup2")) {
    int other = open("/dev/null", O_RDONLY);
    for (int fd = 3; fd < other; ++fd) dup2(other, fd);
  }
  if (says(kind, "chdir") && chdir("/")) return;
  if (says(kind, "fchdir") && fchdir(open("/", O_RDONLY))) return;
  if (says(kind, "loop")) loop_forever();
  if (says(kind, "atexit")) atexit(loop_forever);
  if (says(kind, "nap")) sleep_ms(100);
  if (says(kind, "pause")) sleep_ms(1000);
  if (says(kind, "wait")) sleep_ms(7000);
}
static void be_honest(void) {
  pthread_t thread;
  int fd = open("/dev/null", O_RDONLY);
  close(fd);
  FILE* file = fopen("/dev/null", "r");
  if (file) fclose(file);
  if (!pthread_create(&thread, NULL, end_this_thread, NULL)) pthread_join(thread, NULL);
}

static int32_t create(const connectd_host* h, void** self) {
  const char* kind = h->option(h, "on");
  counter* c = calloc(1, sizeof *c);
  if (!c) return CONNECTD_E_NOMEM;
  c->host = h;
  *self = c;
  if (kind) misbehave((connectd_bytes){(const uint8_t*)kind, strlen(kind)});
  return CONNECTD_OK;
}
static void destroy(void* self) { free(self); }
static int32_t classify(const void* self, connectd_bytes r, const connectd_sink* reply) {
  (void)self, (void)reply;
  if (connectd_begins_with(r, "classify ")) misbehave((connectd_bytes){r.ptr + 9, r.len - 9});
  return connectd_begins_with(r, "get") ? CONNECTD_READ : CONNECTD_WRITE;
}
static int32_t read_value(const void* self, const connectd_read_context* context, connectd_bytes r,
                          const connectd_sink* reply) {
  (void)context;
  if (connectd_begins_with(r, "get ")) misbehave((connectd_bytes){r.ptr + 4, r.len - 4});
  if (says(r, "get big")) return connectd_put(reply, big, sizeof big);
  return connectd_put_decimal(reply, ((const counter*)self)->value, "\n");
}
static int32_t apply(void* self, const connectd_apply_context* context, connectd_bytes r,
                     const connectd_sink* reply) {
  counter* c = self;
  (void)context;
  if (connectd_begins_with(r, "do ")) misbehave((connectd_bytes){r.ptr + 3, r.len - 3});
  if (connectd_begins_with(r, "loop where told") && getenv("UNRULY_LOOPS")) loop_forever();
  if (connectd_begins_with(r, "honest")) be_honest();
  ++c->value;
  if (says(r, "big")) return connectd_put(reply, big, sizeof big);
  return connectd_put_decimal(reply, c->value, "\n");
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  const counter* c = self;
  const char* kind = c->host->option(c->host, "snapshot");
  (void)s;
  if (kind) misbehave((connectd_bytes){(const uint8_t*)kind, strlen(kind)});
  return connectd_put_u64(out, c->value);
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  (void)s;
  return connectd_get_u64(in, &((counter*)self)->value);
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("unruly", "1.0.0", 1, 1, 0, CONNECTD_FRAMING_LINE),
                       create, destroy, classify, read_value, apply, snapshot, restore, NULL);

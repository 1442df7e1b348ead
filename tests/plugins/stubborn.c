/* A counter that misbehaves where it is captured for a snapshot, as plugins do: by
 * plugin.options.snapshot it hangs, crashes or refuses, in a forked child or (built with VIEW) in
 * the save of a view. With STUBBORN_RESTORE in the environment, restore hangs. On the apply thread,
 * and without the option, all is well. */
#include <connect/plugin.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct stubborn {
  const connectd_host* host;
  uint64_t count;
  pid_t process;
} stubborn;

static int32_t create(const connectd_host* h, void** self) {
  stubborn* it = *self = calloc(1, sizeof *it);
  if (!it) return CONNECTD_E_NOMEM;
  it->host = h;
  it->process = getpid();
  return CONNECTD_OK;
}
static void destroy(void* self) { free(self); }
static int32_t apply(void* self, const connectd_apply_context* c, connectd_bytes cmd,
                     const connectd_sink* reply) {
  char text[24];
  (void)c, (void)cmd;
  return connectd_put(
      reply, text,
      (size_t)snprintf(text, sizeof text, "%" PRIu64 "\n", ++((stubborn*)self)->count));
}
static int32_t misbehave(const stubborn* it) {
  const char* how = it->host->option(it->host, "snapshot");
  if (!how) return CONNECTD_OK;
  if (!strcmp(how, "hang")) {
    for (;;) pause();
  }
  if (!strcmp(how, "crash")) abort();
  return it->host->fail(it->host, CONNECTD_E_FAULT, "too stubborn", 12);
}
static int32_t snapshot(void* self, const connectd_snapshot* s, const connectd_sink* out) {
  const stubborn* it = self;
  int32_t code = getpid() == it->process ? CONNECTD_OK : misbehave(it);
  (void)s;
  return code == CONNECTD_OK ? connectd_put_u64(out, it->count) : code;
}
static int32_t restore(void* self, const connectd_snapshot* s, const connectd_source* in) {
  while (getenv("STUBBORN_RESTORE")) pause();
  return (void)s, connectd_get_u64(in, &((stubborn*)self)->count);
}

#ifdef VIEW
static int32_t begin(void* self, const connectd_snapshot* s, void** view) {
  uint64_t* copy = malloc(sizeof *copy);
  if (!copy) return CONNECTD_E_NOMEM;
  *copy = ((const stubborn*)self)->count;
  *view = copy;
  return (void)s, CONNECTD_OK;
}
static int32_t save(const void* self, void* view, const connectd_snapshot* s,
                    const connectd_sink* out) {
  int32_t code = misbehave(self);
  (void)s;
  return code == CONNECTD_OK ? connectd_put_u64(out, *(const uint64_t*)view) : code;
}
static void end(void* self, void* view) { (void)self, free(view); }
static const void* get_extension(const char* id) {
  static const connectd_ext_snapshot_view views = {sizeof(connectd_ext_snapshot_view), 0, begin,
                                                   save, end};
  return strcmp(id, CONNECTD_EXT_SNAPSHOT_VIEW) ? NULL : &views;
}
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("stubborn-view", "1.0.0", 1, 1, 0,
                                            CONNECTD_FRAMING_LINE),
                       create, destroy, NULL, NULL, apply, snapshot, restore, get_extension);
#else
CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD("stubborn", "1.0.0", 1, 1, CONNECTD_F_FORK_SNAPSHOT,
                                            CONNECTD_FRAMING_LINE),
                       create, destroy, NULL, NULL, apply, snapshot, restore, NULL);
#endif

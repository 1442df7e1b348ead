/* connect/plugin.h - the connectd plugin ABI, major 1. C99, no dependencies.
 *
 * A plugin is a shared object that exports ONE symbol, connectd_plugin_v1().
 * The host (connectd) owns Raft, the disk, the network, client sessions and
 * the removal of duplicates. The plugin owns a deterministic state machine and
 * nothing else. plugins/counter/counter.c is a whole plugin, to read first.
 *
 * RULES THAT HOLD EVERYWHERE
 *  R1 Memory: what one side allocates, the other side never frees. A pointer
 *     passed INTO a call is valid only until that call returns, unless its
 *     comment names a longer life. To keep the bytes, copy them.
 *  R2 Unwinding: no exception, panic or longjmp may leave a function of either
 *     side. If one does, the process ends.
 *  R3 Determinism: apply and timers may depend only on the state, the
 *     connectd_apply_context and the command bytes. They must not depend on:
 *     clocks, random sources, thread ids, pointer values, unordered-map order,
 *     locale, environment, files, network, uninitialised padding, or libm
 *     results that differ between CPUs.
 *  R4 Instances: several instances may live in one process (the host loads a
 *     snapshot into a fresh one before it drops the old one). Keep state in the
 *     instance, never in globals.
 *  R5 Reentrancy: a plugin function never calls, through the host, back into
 *     the same instance. No v1 host function waits for consensus.
 *  R6 Unload: the host never calls dlclose, and may exit without running static
 *     destructors. destroy() joins the threads that the plugin started.
 *  R7 Growth: structs only grow, at the end, in 8-byte steps. `size` is the
 *     writer's sizeof. Check CONNECTD_HAS() before you read a field newer than
 *     1.0. Write 0 to reserved fields and ignore them when you read.
 *
 * THREAD CLASSES, for one instance
 *  [main]     before the instance is used, or after its last use. No other call
 *             runs at the same time.
 *  [apply]    one call at a time, in log order. The OS thread may change.
 *  [read]     by default, never at the same time as any other call. With
 *             CONNECTD_F_READ_SHARED: concurrently with other [read]s, not with
 *             [apply]. With CONNECTD_F_READ_CONCURRENT: with [apply] too.
 *  [snapshot] at most one call at a time, concurrently with all others but [main].
 *  [any]      on every thread, concurrently with everything. Must not block.
 */
#ifndef CONNECT_PLUGIN_H
#define CONNECT_PLUGIN_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CONNECTD_ABI_MAJOR 1u
#define CONNECTD_ABI_MINOR 0u
#define CONNECTD_ABI ((CONNECTD_ABI_MAJOR << 16) | CONNECTD_ABI_MINOR)
#define CONNECTD_HAS(type, p, field) \
  ((size_t)(p)->size >= offsetof(type, field) + sizeof((p)->field))
#if defined(__GNUC__) || defined(__clang__)
#define CONNECTD_EXPORT __attribute__((visibility("default")))
#else
#define CONNECTD_EXPORT
#endif

/* ---- result codes: int32_t -------------------------------------------------
 *  0    success.
 *  > 0  apply and read only: the plugin's own status ("not found", "version
 *       conflict"). Part of the deterministic result; sent to the client.
 *  < 0  from apply, timers, snapshot, restore: a LOCAL fault. The replica stops and
 *       its applied index does not move. The host then only destroys the instance.
 *       Some failures are milder: see snapshots in a fork, views, and restore.
 *
 * -6 is unassigned and reserved: no plugin returns it. A store that keeps its state
 * on disk will need a code of its own for "no space left, nothing was changed",
 * and a replica must not stop for that one. An extension that defines such a code
 * takes this number. Until then the host treats -6 like every unknown negative
 * code: as CONNECTD_E_FAULT. */
#define CONNECTD_OK 0
#define CONNECTD_E_FAULT (-1) /* unspecified local fault */
#define CONNECTD_E_NOMEM (-2)
#define CONNECTD_E_IO (-3)
#define CONNECTD_E_CORRUPT (-4)     /* the snapshot or the own state is invalid */
#define CONNECTD_E_VERSION (-5)     /* the level is outside what this build supports */
#define CONNECTD_E_UNSUPPORTED (-7) /* this build cannot do what was asked */
#define CONNECTD_E_CANCELLED (-8)   /* a sink or source returns it: stop, and return it too */
#define CONNECTD_E_TOO_BIG (-9)     /* longer than a limit */
#define CONNECTD_E_EXCEPTION (-10)  /* a wrapper caught an exception or a panic */
#define CONNECTD_E_CONFIG (-11)     /* create: plugin.options are invalid */

/* The longest reply. A longer reply of read or classify fails the request. */
#define CONNECTD_REPLY_MAX (64u << 20)
/* The host's own status; plugins do not return it. See apply. */
#define CONNECTD_STATUS_REPLY_TOO_BIG 0x7fffffff

/* ---- bytes and streams ----------------------------------------------------- */
typedef struct connectd_bytes { /* borrowed; ptr may be NULL when len is 0 */
  const uint8_t* ptr;
  size_t len;
} connectd_bytes;

typedef struct connectd_sink { /* replies and snapshot output */
  uint32_t size, reserved;
  void* ctx;
  /* Accepts ALL len bytes and returns CONNECTD_OK, or fails. There is no partial
   * write. The data is copied before the return. After a failure every further
   * write fails too; return its code unchanged. For a reply you may ignore the
   * result: the host records the failure. A reply of apply never fails because of
   * its length: see apply. */
  int32_t (*write)(void* ctx, const void* data, size_t len);
} connectd_sink;

typedef struct connectd_source { /* snapshot input */
  uint32_t size, reserved;
  void* ctx;
  /* Fills buf with cap bytes, and returns how many it wrote. Fewer than cap ONLY at
   * the end of the stream, 0 at the end. Negative is an error: an error is never
   * reported as an end. */
  int64_t (*read)(void* ctx, void* buf, size_t cap);
} connectd_source;

/* ---- the host --------------------------------------------------- */
#define CONNECTD_LOG_DEBUG 0
#define CONNECTD_LOG_INFO 1
#define CONNECTD_LOG_WARN 2
#define CONNECTD_LOG_ERROR 3

typedef struct connectd_host { /* alive from create() until destroy() returns */
  uint32_t size, abi;
  void* ctx;
  const char* name; /* "connectd", UTF-8 */
  const char* version;
  /* [any] Logs a text. UTF-8, no newline needed; copied. */
  void (*log)(const struct connectd_host* h, int32_t level, const char* text, size_t len);
  /* Any plugin function may call it before it returns a negative code. It records
   * the reason for THIS call on THIS thread and returns `code`, so that you can write
   * `return h->fail(h, CONNECTD_E_IO, "...", n);`. The text is copied. */
  int32_t (*fail)(const struct connectd_host* h, int32_t code, const char* text, size_t len);
  /* [any] The value of a key under plugin.options of the configuration ("start",
   * "limits.keys"), or NULL. UTF-8; lives as long as h. Options influence the
   * state, so all nodes use the ones from the log, not those in their own files. */
  const char* (*option)(const struct connectd_host* h, const char* key);
  /* [any] A host extension by id, or NULL. Owned by the host; lives as long as h. */
  const void* (*get_extension)(const struct connectd_host* h, const char* id);
} connectd_host;

/* ---- contexts -------------------------------------------------------------- */
/* Every byte here is a function of the log: equal on all replicas, in the first run
 * and in a replay. By intent it says nothing about role, leadership or replay. */
typedef struct connectd_apply_context {
  uint32_t size;
  uint32_t level; /* behaviour level in force at this entry */
  uint64_t index; /* Raft index; increases, with gaps */
  uint64_t term;
  int64_t time_ns;      /* Unix time, stamped by the leader; the host
                           makes it strictly increasing along the log */
  uint64_t session_id;  /* the client's own session; 0 for line, RESP,
                           length and plain HTTP clients: their node keeps
                           a session for them that is never shown */
  uint64_t session_seq; /* the client's request number in the session */
  uint64_t seed[2];     /* seeds a PRNG; derived from cluster id, term
                           and index; not secret */
} connectd_apply_context;

typedef struct connectd_read_context {
  uint32_t size;
  uint32_t level;
  uint64_t applied_index;  /* the state being read includes this entry */
  int64_t applied_time_ns; /* that entry's time_ns: use it to decide what has
                              expired */
  int64_t now_ns;          /* >= applied_time_ns; for reports such as "time left",
                              not for decisions */
  uint64_t session_id;
} connectd_read_context;

typedef struct connectd_snapshot {
  uint32_t size;
  uint32_t level;       /* snapshot: write THIS level's format; restore: the
                           format of the bytes that follow */
  uint64_t index, term; /* the last entry that the snapshot covers */
  int64_t time_ns;
  uint64_t length;            /* restore: the exact number of bytes; else 0 */
  const char* writer_version; /* restore: the version of the plugin that wrote it */
} connectd_snapshot;

/* ---- results of classify ---------------------------------------------------
 * Any other value is treated as CONNECTD_REJECT, with the error PLUGIN. */
/* The request goes through the log to apply. */
#define CONNECTD_WRITE 1
/* A linearizable read, unless the client itself asks for a lease or stale read. */
#define CONNECTD_READ 2
/* A read of this replica's present state, however old that is. */
#define CONNECTD_READ_LOCAL 3
/* Rejected before consensus. The client gets what classify wrote, or else REJECTED. */
#define CONNECTD_REJECT 4
/* Answered: the client gets what classify wrote, as a success. For greetings, PING, COMMAND. */
#define CONNECTD_REPLY 5

/* ---- flags ------------------------------------------------------------------
 * Bits 0-31 are demands: a host that does not know one rejects the plugin. None is
 * defined yet.
 * Bits 32-63 are permissions: a host may use them or not, and ignores those that it
 * does not know. */
/* Reads may run concurrently. */
#define CONNECTD_F_READ_SHARED (1ull << 32)
/* Reads may run concurrently, also with apply. */
#define CONNECTD_F_READ_CONCURRENT (1ull << 33)
/* The host may call snapshot() in a forked child of the process, while apply continues in
 * the parent. The child is a copy in which only the calling thread exists: snapshot()
 * must not wait for another thread, nor take a lock that one may have held at the fork.
 * It may use memory as always (malloc works there), host->log and host->fail. It must
 * not use descriptors, files, threads or the terminal: all are closed or gone. If the
 * child fails or crashes, the snapshot has failed and the host tries again later; the
 * replica does not stop. No other function is called in the child. */
#define CONNECTD_F_FORK_SNAPSHOT (1ull << 34)
/* Equal states give equal snapshot bytes, so the host may compare replicas by them. */
#define CONNECTD_F_CANONICAL_SNAPSHOT (1ull << 35)

/* ---- framing: where a request ends on a client port, outside the native protocol */
#define CONNECTD_FRAMING_LINE 0   /* at \n; the reply is sent as written */
#define CONNECTD_FRAMING_RESP 1   /* Redis protocol, requests and replies */
#define CONNECTD_FRAMING_LENGTH 2 /* u32 little-endian length, requests and replies */

/* ---- the plugin ------------------------------------------------------------ */
typedef struct connectd_plugin { /* static, const, alive for the process */
  uint32_t size;                 /* sizeof(connectd_plugin) */
  uint32_t abi;                  /* CONNECTD_ABI */
  const char* name;              /* [a-z0-9._-]{1,64}; stored in every snapshot; a
                                    data directory belongs to one name */
  const char* version;           /* text for people, e.g. "1.4.2+g12ab34c": 1 to 128
                                    visible ASCII characters */
  uint32_t level_min;            /* this build can run the levels from level_min (at
                                    least 1) .. */
  uint32_t level_max;            /* .. to level_max, in commands and in snapshots */
  uint64_t flags;                /* CONNECTD_F_* */
  uint32_t framing;              /* CONNECTD_FRAMING_*: for client ports that do not
                                    use the native protocol */
  uint32_t reserved;

  /* [main] Makes the empty state. On failure the host ignores *self and does not call
   * destroy. */
  int32_t (*create)(const connectd_host* h, void** self);
  /* [main] Joins threads and frees everything. Never fails. */
  void (*destroy)(void* self);
  /* [any] Says what a request is: CONNECTD_WRITE, READ, READ_LOCAL, REJECT or REPLY. For
   * the last two it writes the client's reply. A pure, total function of req and the
   * options: every byte string gets a result, and always the same. It must not look at
   * replicated state. NULL if read is NULL too: then every request is a write. It is no
   * protection: apply still gets every byte string (older nodes, other versions). It runs
   * on the network thread: it takes microseconds and never blocks. */
  int32_t (*classify)(const void* self, connectd_bytes req, const connectd_sink* reply);
  /* [read] Changes nothing that a later call could observe. A negative code fails this one
   * request with PLUGIN and the fail() text, and the node continues; but
   * CONNECTD_E_CORRUPT stops it. */
  int32_t (*read)(const void* self, const connectd_read_context* c, connectd_bytes req,
                  const connectd_sink* reply);
  /* [apply] Applies a committed command. Total: an unknown command is a status > 0 (and, for
   * line and RESP clients, who see only the bytes, an error in the reply), never a fault. A
   * command that makes apply fail stops the whole cluster, one replica after the other.
   * Status and reply bytes must be equal on every replica. reply is never NULL, even if
   * nobody waits for it. A reply of more than CONNECTD_REPLY_MAX bytes is accepted and
   * dropped: the command has its effect, and the client gets an error text and the status
   * CONNECTD_STATUS_REPLY_TOO_BIG. */
  int32_t (*apply)(void* self, const connectd_apply_context* c, connectd_bytes cmd,
                   const connectd_sink* reply);
  /* [apply] Writes the whole state (with CONNECTD_F_CANONICAL_SNAPSHOT: equal states give
   * equal bytes). Changes nothing observable. apply waits until it is done, unless
   * CONNECTD_F_FORK_SNAPSHOT or CONNECTD_EXT_SNAPSHOT_VIEW offers a better way. */
  int32_t (*snapshot)(void* self, const connectd_snapshot* s, const connectd_sink* out);
  /* [main] Reads the whole state. Called only on an instance fresh from create. Reads to the
   * end: bytes left over are a failure. On failure the host destroys the instance. It
   * keeps the old one, if there is one, and tries again later. The stream's checksum has
   * been verified; still, never trust a length in it. */
  int32_t (*restore)(void* self, const connectd_snapshot* s, const connectd_source* in);
  /* [any] An extension by id, or NULL. Always the same result. May be NULL. */
  const void* (*get_extension)(const char* id);
} connectd_plugin;

/* The one exported symbol. Cheap and pure: no allocation, thread, file or lock.
 * A future major will export connectd_plugin_v2 in addition. */
CONNECTD_EXPORT const connectd_plugin* connectd_plugin_v1(void);

/* ==== optional plugin extensions (plugin->get_extension) ==================== */

/* Replicated timers. The leader logs a tick once the deadline has passed. The deadline is
 * part of the plugin's own state, so the snapshot contains it already. */
#define CONNECTD_EXT_TIMERS "connectd.timers/1"
typedef struct connectd_ext_timers {
  uint32_t size, reserved;
  /* [apply] The time_ns of the next tick, INT64_MAX for none. Depends on the state only.
   * Negative: a CONNECTD_E_* code, a local fault as in apply. */
  int64_t (*next_deadline)(const void* self);
  /* [apply] c->time_ns >= the deadline. Handles all that is due, or a part: the host calls it
   * again while next_deadline is in the past. Returns CONNECTD_OK, or a negative code: a
   * local fault as in apply. */
  int32_t (*on_tick)(void* self, const connectd_apply_context* c);
} connectd_ext_timers;

/* Snapshots while apply continues. The host may still call snapshot() instead, at any time:
 * both write the same bytes for the same state.
 *
 *   begin   [apply], between two commands. Fixes the state as it is now, quickly: a version
 *           number, a shared root, a flag that makes apply keep what it overwrites. The next
 *           command waits for it. There is at most one view of an instance at a time.
 *   save    [snapshot], concurrently with apply, read and on_tick of the same instance: what
 *           both use needs a lock, or must not change while there is a view. At most one
 *           call for each view.
 *   end     [apply]. Frees the view. Called exactly once for each begin that returned
 *           CONNECTD_OK, whether or not save was called, after save has returned, and
 *           before destroy. When the host replaces the instance by another one, it calls
 *           end and then destroy as [main].
 *
 * If begin or save fails, the snapshot has failed and the host tries again later. The replica
 * never stops for it, so neither may leave the state changed. */
#define CONNECTD_EXT_SNAPSHOT_VIEW "connectd.snapshot-view/1"
typedef struct connectd_ext_snapshot_view {
  uint32_t size, reserved;
  /* [apply] On failure the host ignores *view and does not call end. `s` as for snapshot(). */
  int32_t (*begin)(void* self, const connectd_snapshot* s, void** view);
  /* [snapshot] Writes the state as it was at begin, in the format of snapshot(). `s` has the
   * same values as in begin. When out->write fails, return its code at once: the host also
   * stops a snapshot in this way (CONNECTD_E_CANCELLED). */
  int32_t (*save)(const void* self, void* view, const connectd_snapshot* s,
                  const connectd_sink* out);
  /* [apply] Never fails. */
  void (*end)(void* self, void* view);
} connectd_ext_snapshot_view;

/* ==== optional host extensions (host->get_extension) ======================== */

/* Metrics of the plugin's own: GET /metrics of the node shows them as plugin_PLUGIN_NAME, where
 * PLUGIN is the plugin's name with '_' for '-' and '.'. A metric belongs to one instance: it
 * begins at 0, also when a snapshot replaces the instance. It is no part of the state and cannot
 * be read back, so it cannot make replicas differ. In a forked child changes are lost.
 *
 * create makes all metrics; afterwards there are only changes, which cost an atomic instruction.
 * A metric that the host refuses is NULL: the host logs why, and continues. The three functions
 * that change a metric take NULL, and one of another type, and do nothing. */
#define CONNECTD_EXT_METRICS "connectd.metrics/1"
#define CONNECTD_METRICS_MAX 256u               /* of one instance */
typedef struct connectd_metric connectd_metric; /* owned by the host; lives as long as h */
typedef struct connectd_ext_metrics {
  uint32_t size, reserved;
  /* [main], during create only: later ones are refused. All texts are copied.
   *
   *   name   [a-z][a-z0-9_]*, at most 64 bytes. A counter's ends in _total, a histogram's in
   *          _seconds; no other's ends in _total, _bucket, _count or _sum.
   *   help   one line for people: 1 to 200 printable ASCII characters, no backslash.
   *   label  NULL, or a name as above: then `value` is the label's, 1 to 128 printable ASCII
   *          characters. Metrics of one name have the same type and label, and each another
   *          value; the help of the first counts.
   *
   * A counter only grows. A gauge goes up and down. A histogram counts durations in buckets from
   * 0.1 ms to 13 s. */
  connectd_metric* (*counter)(const connectd_host* h, const char* name, const char* help,
                              const char* label, const char* value);
  connectd_metric* (*gauge)(const connectd_host* h, const char* name, const char* help,
                            const char* label, const char* value);
  connectd_metric* (*histogram)(const connectd_host* h, const char* name, const char* help,
                                const char* label, const char* value);
  /* [any] A counter grows by `more`. */
  void (*add)(connectd_metric* m, uint64_t more);
  /* [any] A gauge is `value`. */
  void (*set)(connectd_metric* m, double value);
  /* [any] A histogram counts one duration of so many nanoseconds. */
  void (*observe)(connectd_metric* m, uint64_t nanoseconds);
} connectd_ext_metrics;

/* ==== layout checks (compiled into the plugin) ============================== */
#define CONNECTD_SA_(name, cond) typedef char connectd_sa_##name[(cond) ? 1 : -1]
CONNECTD_SA_(ptr64, sizeof(void*) == 8 && sizeof(size_t) == 8);
CONNECTD_SA_(apply_context,
             sizeof(connectd_apply_context) == 64 && offsetof(connectd_apply_context, seed) == 48);
CONNECTD_SA_(read_context, sizeof(connectd_read_context) == 40);
CONNECTD_SA_(snapshot, sizeof(connectd_snapshot) == 48);
CONNECTD_SA_(sink, sizeof(connectd_sink) == 24 && sizeof(connectd_source) == 24);
CONNECTD_SA_(host, sizeof(connectd_host) == 64);
CONNECTD_SA_(plugin, sizeof(connectd_plugin) == 112 && offsetof(connectd_plugin, create) == 48);
CONNECTD_SA_(ext_timers, sizeof(connectd_ext_timers) == 24);
CONNECTD_SA_(ext_snapshot_view, sizeof(connectd_ext_snapshot_view) == 32);
CONNECTD_SA_(ext_metrics, sizeof(connectd_ext_metrics) == 56);

/* ==== helpers (compiled into the plugin) ====================================
 * None of them allocates, uses the C library or depends on the locale. */

/* The table. A plugin in C ends with
 *     CONNECTD_EXPORT_PLUGIN(CONNECTD_PLUGIN_HEAD(...), create, destroy, classify, read, apply,
 *                            snapshot, restore, get_extension);
 * which defines the one exported symbol. */
#define CONNECTD_PLUGIN_HEAD(name, version, level_min, level_max, flags, framing)               \
  (uint32_t)sizeof(connectd_plugin), CONNECTD_ABI, (name), (version), (level_min), (level_max), \
      (flags), (framing), 0
/* The head of a plugin that has one level so far and whose clients send lines. */
#define CONNECTD_LINE_PLUGIN_HEAD(name, version, flags) \
  CONNECTD_PLUGIN_HEAD(name, version, 1, 1, flags, CONNECTD_FRAMING_LINE)
#define CONNECTD_EXPORT_PLUGIN(...)                              \
  const connectd_plugin* connectd_plugin_v1(void) {              \
    static const connectd_plugin connectd_table = {__VA_ARGS__}; \
    return &connectd_table;                                      \
  }                                                              \
  CONNECTD_SA_(exported, 1)

/* ---- bytes: a request is not terminated by a NUL, and may contain some ---- */

static inline size_t connectd_text_length(const char* text) {
  size_t n = 0;
  while (text[n] != '\0') n++;
  return n;
}
/* 1 if b begins with text, which ends at its NUL; else 0. */
static inline int connectd_begins_with(connectd_bytes b, const char* text) {
  size_t i;
  for (i = 0; text[i] != '\0'; i++)
    if (i >= b.len || b.ptr[i] != (uint8_t)text[i]) return 0;
  return 1;
}
/* 1 if b is text, which ends at its NUL; else 0. */
static inline int connectd_equals(connectd_bytes b, const char* text) {
  return b.len == connectd_text_length(text) && connectd_begins_with(b, text);
}
/* 1 if b is the n bytes at lit; else 0. */
static inline int connectd_eq(connectd_bytes b, const char* lit, size_t n) {
  size_t i;
  if (b.len != n) return 0;
  for (i = 0; i < n; i++)
    if (b.ptr[i] != (uint8_t)lit[i]) return 0;
  return 1;
}
/* b without its first n bytes; empty if it has no more than n. */
static inline connectd_bytes connectd_skip(connectd_bytes b, size_t n) {
  connectd_bytes rest = {NULL, 0};
  if (n < b.len) {
    rest.ptr = b.ptr + n;
    rest.len = b.len - n;
  }
  return rest;
}
/* 1 if b is a decimal number that fits into *v: digits and nothing else. Else 0, and *v stays. */
static inline int connectd_parse_u64(connectd_bytes b, uint64_t* v) {
  uint64_t value = 0;
  size_t i;
  for (i = 0; i < b.len; i++) {
    uint64_t digit = (uint64_t)b.ptr[i] - '0'; /* huge for a byte below '0' */
    if (digit > 9 || value > (UINT64_MAX - digit) / 10) return 0;
    value = value * 10 + digit;
  }
  if (b.len == 0) return 0;
  *v = value;
  return 1;
}

/* ---- replies: text ---- */

static inline int32_t connectd_put(const connectd_sink* s, const void* p, size_t n) {
  return s->write(s->ctx, p, n);
}
/* A text that ends at its NUL. */
static inline int32_t connectd_put_text(const connectd_sink* s, const char* text) {
  return connectd_put(s, text, connectd_text_length(text));
}
/* A number in decimal, then `after`: connectd_put_decimal(reply, 42, "\n"). */
static inline int32_t connectd_put_decimal(const connectd_sink* s, uint64_t v, const char* after) {
  char digits[20];
  size_t begin = sizeof digits;
  int32_t rc;
  do {
    digits[--begin] = (char)('0' + v % 10);
    v /= 10;
  } while (v != 0);
  rc = connectd_put(s, digits + begin, sizeof digits - begin);
  return rc == CONNECTD_OK ? connectd_put_text(s, after) : rc;
}

/* ---- snapshots: numbers of 8 bytes, little-endian ---- */

static inline int32_t connectd_put_u64(const connectd_sink* s, uint64_t v) {
  uint8_t b[8];
  int i;
  for (i = 0; i < 8; i++) b[i] = (uint8_t)(v >> (8 * i));
  return connectd_put(s, b, 8);
}
/* Exactly n bytes, or CONNECTD_E_CORRUPT at an early end, or the source's error. */
static inline int32_t connectd_get(const connectd_source* s, void* p, size_t n) {
  int64_t r = s->read(s->ctx, p, n);
  return r < 0 ? (int32_t)r : (uint64_t)r == (uint64_t)n ? CONNECTD_OK : CONNECTD_E_CORRUPT;
}
static inline int32_t connectd_get_u64(const connectd_source* s, uint64_t* v) {
  uint8_t b[8];
  int i;
  int32_t rc = connectd_get(s, b, 8);
  if (rc != CONNECTD_OK) return rc;
  for (*v = 0, i = 0; i < 8; i++) *v |= (uint64_t)b[i] << (8 * i);
  return CONNECTD_OK;
}

/* ---- the host ---- */

/* host->log and host->fail with a text that ends at its NUL. */
static inline void connectd_log(const connectd_host* h, int32_t level, const char* text) {
  h->log(h, level, text, connectd_text_length(text));
}
static inline int32_t connectd_fail(const connectd_host* h, int32_t code, const char* text) {
  return h->fail(h, code, text, connectd_text_length(text));
}
/* For create: sets *v to the option as a whole number, or leaves it as it is if the option is not
 * set. An option that is no such number is CONNECTD_E_CONFIG, with a text that names the key. */
static inline int32_t connectd_option_u64(const connectd_host* h, const char* key, uint64_t* v) {
  const char* value = h->option(h, key);
  const char* parts[4];
  char text[256]; /* longer ones are cut */
  size_t n = 0, i, j;
  connectd_bytes b;
  if (value == NULL) return CONNECTD_OK;
  b.ptr = (const uint8_t*)value;
  b.len = connectd_text_length(value);
  if (connectd_parse_u64(b, v)) return CONNECTD_OK;
  parts[0] = "plugin.options.";
  parts[1] = key;
  parts[2] = " must be a whole number from 0 to 18446744073709551615, and is ";
  parts[3] = value;
  for (i = 0; i < 4; i++)
    for (j = 0; parts[i][j] != '\0' && n < sizeof text; j++) text[n++] = parts[i][j];
  return h->fail(h, CONNECTD_E_CONFIG, text, n);
}
#ifdef __cplusplus
}
#endif
#endif

/* connect/plugin.h - the connectd plugin ABI, major 1. C99, no dependencies.
 *
 * A plugin is a shared object that exports ONE symbol, connectd_plugin_v1().
 * The host (connectd) owns Raft, disk, network, sessions and duplicate removal.
 * The plugin owns a deterministic state machine and nothing else.
 *
 * RULES THAT HOLD EVERYWHERE
 *  R1 Memory: nothing allocated on one side is freed on the other. Every pointer
 *     passed INTO a call is valid only until that call returns, unless its
 *     comment names a longer life. To keep bytes, copy them.
 *  R2 Unwinding: no exception, panic or longjmp may leave a function of either
 *     side. One that does ends the process.
 *  R3 Determinism: apply and timers may depend only on the state, the
 *     connectd_apply_context and the command bytes. Not on: clock, random source, thread
 *     id, pointer values, unordered-map order, locale, environment, files,
 *     network, uninitialised padding, libm results that differ between CPUs.
 *  R4 Instances: several instances may live in one process (the host loads a
 *     snapshot into a fresh one before it drops the old one). Keep state in the
 *     instance, never in globals.
 *  R5 Reentrancy: a plugin function never calls, through the host, back into
 *     the same instance. No v1 host function waits for consensus.
 *  R6 Unload: the host never calls dlclose, and does not promise to run static
 *     destructors at exit. Threads the plugin started are joined in destroy().
 *  R7 Growth: structs only grow, at the end, in 8-byte steps. `size` is the
 *     writer's sizeof. Read a field newer than 1.0 only behind CONNECTD_HAS().
 *     Reserved fields are written 0 and ignored when read.
 *
 * THREAD CLASSES, for one instance
 *  [main]     before the instance is used or after its last use; alone.
 *  [apply]    one call at a time, in log order. The OS thread may change.
 *  [read]     by default never at the same time as any other call. With
 *             CONNECTD_F_READ_SHARED: together with other [read]s, not with [apply].
 *             With CONNECTD_F_READ_CONCURRENT: together with [apply] too.
 *  [snapshot] at most one call at a time, together with any of the others but [main].
 *  [any]      every thread, at the same time as everything; must not block.
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
 *  0    done.
 *  > 0  apply/read only: the plugin's own status ("not found", "version
 *       conflict"). Part of the deterministic result; goes to the client.
 *  < 0  from apply/timers/snapshot/restore: a LOCAL fault. The replica stops, its
 *       applied index does not move, the instance is only destroyed after. */
#define CONNECTD_OK 0
#define CONNECTD_E_FAULT (-1) /* unspecified local fault */
#define CONNECTD_E_NOMEM (-2)
#define CONNECTD_E_IO (-3)
#define CONNECTD_E_CORRUPT (-4) /* snapshot or own state does not make sense */
#define CONNECTD_E_VERSION (-5) /* level outside what this build supports */
#define CONNECTD_E_UNSUPPORTED (-7)
#define CONNECTD_E_CANCELLED (-8) /* from a sink or source: stop, return this */
#define CONNECTD_E_TOO_BIG (-9)
#define CONNECTD_E_EXCEPTION (-10) /* a wrapper caught an exception or a panic */
#define CONNECTD_E_CONFIG (-11)    /* create: the plugin config is wrong */

/* The longest reply. One of read or classify that is longer makes that request fail. */
#define CONNECTD_REPLY_MAX (64u << 20)
/* Not for plugins to return: the host's own status, see apply. */
#define CONNECTD_STATUS_REPLY_TOO_BIG 0x7fffffff

/* ---- bytes and streams ----------------------------------------------------- */
typedef struct connectd_bytes { /* borrowed; ptr may be NULL when len is 0 */
  const uint8_t* ptr;
  size_t len;
} connectd_bytes;

typedef struct connectd_sink { /* replies and snapshot output */
  uint32_t size, reserved;
  void* ctx;
  /* Takes ALL len bytes and returns CONNECTD_OK, or fails. Never a partial write.
   * The data is copied before the return. After a failure every further write
   * fails too; return that code as it is. For replies the result may be ignored:
   * the host notes a failure itself. A reply of apply never fails for its length:
   * see apply. */
  int32_t (*write)(void* ctx, const void* data, size_t len);
} connectd_sink;

typedef struct connectd_source { /* snapshot input */
  uint32_t size, reserved;
  void* ctx;
  /* Fills buf with cap bytes. Fewer ONLY at the end of the stream; 0 is the
   * end; negative is an error, which is never reported as an end. */
  int64_t (*read)(void* ctx, void* buf, size_t cap);
} connectd_source;

/* ---- what the host gives --------------------------------------------------- */
#define CONNECTD_LOG_DEBUG 0
#define CONNECTD_LOG_INFO 1
#define CONNECTD_LOG_WARN 2
#define CONNECTD_LOG_ERROR 3

typedef struct connectd_host { /* alive from create() until destroy() returns */
  uint32_t size, abi;
  void* ctx;
  const char* name; /* "connectd", UTF-8 */
  const char* version;
  /* [any] UTF-8, no newline needed; copied. */
  void (*log)(const struct connectd_host* h, int32_t level, const char* text, size_t len);
  /* Any plugin function may call it before it returns a negative code: notes a
   * text for THIS call on THIS thread, returns `code` so that
   * `return h->fail(h, CONNECTD_E_IO, "...", n);` reads well. Text is copied. */
  int32_t (*fail)(const struct connectd_host* h, int32_t code, const char* text, size_t len);
  /* [any] Value of a key under plugin.options of the configuration ("start",
   * "limits.keys"), or NULL. UTF-8; same life as h. Options are an input to
   * determinism: those in force come from the log, not from this node's file. */
  const char* (*option)(const struct connectd_host* h, const char* key);
  /* [any] host extension by id, or NULL. Owned by the host, same life as h. */
  const void* (*get_extension)(const struct connectd_host* h, const char* id);
} connectd_host;

/* ---- contexts -------------------------------------------------------------- */
/* Every byte here is a function of the log: equal on all replicas, first run or
 * replay. It deliberately says nothing about role, leadership or replay. */
typedef struct connectd_apply_context {
  uint32_t size;
  uint32_t level; /* behaviour level in force at this entry */
  uint64_t index; /* Raft index; rises, with gaps */
  uint64_t term;
  int64_t time_ns;      /* Unix time stamped by the leader; the host
                           makes it strictly rising along the log */
  uint64_t session_id;  /* the client's own session; 0 for line, RESP,
                           length and plain HTTP clients: the session
                           their node keeps for them is never shown */
  uint64_t session_seq; /* client's request number within the session */
  uint64_t seed[2];     /* from cluster id, term and index; for a PRNG,
                           not secret */
} connectd_apply_context;

typedef struct connectd_read_context {
  uint32_t size;
  uint32_t level;
  uint64_t applied_index;  /* the state being read includes this entry */
  int64_t applied_time_ns; /* that entry's time_ns: decides what has expired */
  int64_t now_ns;          /* >= applied_time_ns; only to report, as in "time
                              left", never to decide */
  uint64_t session_id;
} connectd_read_context;

typedef struct connectd_snapshot {
  uint32_t size;
  uint32_t level;       /* snapshot: write THIS level's format; restore: the
                           format that follows */
  uint64_t index, term; /* last entry the snapshot covers */
  int64_t time_ns;
  uint64_t length;            /* restore: exact bytes that follow; else 0 */
  const char* writer_version; /* restore: plugin version text that wrote it */
} connectd_snapshot;

/* ---- classify's answer ----------------------------------------------------- */
/* Any other value is treated as CONNECTD_REJECT, with the error PLUGIN. */
/* Goes through the log to apply. */
#define CONNECTD_WRITE 1
/* Linearizable, unless the client itself asks for a lease or stale read. */
#define CONNECTD_READ 2
/* Any replica's present state will do. */
#define CONNECTD_READ_LOCAL 3
/* Refused before consensus; the client gets what classify wrote, else REJECTED. */
#define CONNECTD_REJECT 4
/* Answered by what classify wrote, counted as success: greetings, PING, COMMAND. */
#define CONNECTD_REPLY 5

/* ---- flags ------------------------------------------------------------------
 * Bits 0-31 are demands: a host that does not know one refuses the plugin. None is
 * defined yet.
 * Bits 32-63 are permissions: a host may make use of them or not, and one that does
 * not know a bit ignores it. */
/* Reads beside other reads. */
#define CONNECTD_F_READ_SHARED (1ull << 32)
/* Reads beside apply too. */
#define CONNECTD_F_READ_CONCURRENT (1ull << 33)
/* snapshot() may be called in a forked child of the process, while apply goes on in the
 * parent. The child is a copy in which no thread but the calling one exists: snapshot()
 * must not wait for another thread, nor take a lock that one may have held at the fork.
 * It may use memory as always (malloc is usable there), and host->log and host->fail. It
 * must not touch descriptors, files, threads or the terminal: all are closed, or gone.
 * A failure or crash of the child is a failed snapshot, which is tried again later; it
 * never stops the replica. Nothing but snapshot() is ever called there. */
#define CONNECTD_F_FORK_SNAPSHOT (1ull << 34)
/* Equal states give equal snapshot bytes: lets the host compare replicas by them. */
#define CONNECTD_F_CANONICAL_SNAPSHOT (1ull << 35)

/* ---- framing: how a client port cuts requests that are not of the native protocol */
#define CONNECTD_FRAMING_LINE 0   /* up to \n; the reply as written */
#define CONNECTD_FRAMING_RESP 1   /* Redis protocol, both ways */
#define CONNECTD_FRAMING_LENGTH 2 /* u32 little-endian length, both ways */

/* ---- the plugin ------------------------------------------------------------ */
typedef struct connectd_plugin { /* static, const, alive for the process */
  uint32_t size;                 /* sizeof(connectd_plugin) */
  uint32_t abi;                  /* CONNECTD_ABI */
  const char* name;              /* [a-z0-9._-]{1,64}; kept in every snapshot; a
                                    data directory belongs to one name */
  const char* version;           /* text for people, e.g. "1.4.2+g12ab34c": 1 to 128
                                    visible ASCII characters */
  uint32_t level_min;            /* this build can run levels level_min (from 1) .. */
  uint32_t level_max;            /* .. level_max, both in commands and snapshot */
  uint64_t flags;                /* CONNECTD_F_* */
  uint32_t framing;              /* CONNECTD_FRAMING_*: how a client port that does
                                    not speak the native protocol cuts requests */
  uint32_t reserved;

  /* [main] Empty state. On failure *self is ignored and destroy is not called. */
  int32_t (*create)(const connectd_host* h, void** self);
  /* [main] Joins threads, frees everything. Never fails. */
  void (*destroy)(void* self);
  /* [any] A pure, total function of req and the options: any byte string gets
   * an answer, the same one every time: CONNECTD_WRITE, READ, READ_LOCAL,
   * REJECT or REPLY; for the last two it writes the client's reply. Must not
   * look at replicated state. May be NULL together with read: then every request
   * is a write. Only a gate: apply still meets every byte string (older nodes,
   * other versions). Called on the network thread: microseconds, never blocking. */
  int32_t (*classify)(const void* self, connectd_bytes req, const connectd_sink* reply);
  /* [read] Changes nothing a later call could observe. < 0: this one request is
   * answered PLUGIN with the fail() text and the node goes on, but for
   * CONNECTD_E_CORRUPT, which stops it. */
  int32_t (*read)(const void* self, const connectd_read_context* c, connectd_bytes req,
                  const connectd_sink* reply);
  /* [apply] A committed command. Total: an unknown command is a status > 0 (and,
   * for line and RESP clients, who see only the bytes, an error in the reply),
   * never a fault: a command that makes apply fault stops the whole cluster,
   * one replica after the other. Status and reply bytes must be equal on every
   * replica. reply is never NULL, also where nobody waits. A reply of more than
   * CONNECTD_REPLY_MAX bytes is taken and dropped: the command counts, the client
   * gets an error text and the status CONNECTD_STATUS_REPLY_TOO_BIG. */
  int32_t (*apply)(void* self, const connectd_apply_context* c, connectd_bytes cmd,
                   const connectd_sink* reply);
  /* [apply] Writes the whole state (with CONNECTD_F_CANONICAL_SNAPSHOT: equal
   * states give equal bytes). Changes nothing observable. apply waits meanwhile, unless
   * CONNECTD_F_FORK_SNAPSHOT or CONNECTD_EXT_SNAPSHOT_VIEW gives a better way. */
  int32_t (*snapshot)(void* self, const connectd_snapshot* s, const connectd_sink* out);
  /* [main] Called only on an instance fresh from create. Reads to the end:
   * bytes left over are a failure. On failure the host destroys the instance and keeps the old one.
   * The stream's checksum has been verified; still never trust a length in it. */
  int32_t (*restore)(void* self, const connectd_snapshot* s, const connectd_source* in);
  /* [any] Extension by id, or NULL; same answer every time. May be NULL. */
  const void* (*get_extension)(const char* id);
} connectd_plugin;

/* The one exported symbol. Cheap and pure: no allocation, thread, file or lock.
 * A future major exports connectd_plugin_v2 beside it. */
CONNECTD_EXPORT const connectd_plugin* connectd_plugin_v1(void);

/* ==== optional plugin extensions (plugin->get_extension) ==================== */

/* Replicated timers. The deadline is part of the plugin's own state, so it is in
 * the snapshot with no more work; the leader logs a tick once it has passed. */
#define CONNECTD_EXT_TIMERS "connectd.timers/1"
typedef struct connectd_ext_timers {
  uint32_t size, reserved;
  /* [apply] Earliest time_ns wanted, INT64_MAX for none. Pure in the state.
   * Negative: a CONNECTD_E_* code, a local fault as in apply. */
  int64_t (*next_deadline)(const void* self);
  /* [apply] c->time_ns >= the deadline. Handles all that is due, or some:
   * it is called again while next_deadline is in the past. */
  int32_t (*on_tick)(void* self, const connectd_apply_context* c);
} connectd_ext_timers;

/* Snapshots while apply goes on. The host may still call snapshot() instead, at any time:
 * both write the same bytes for the same state.
 *
 *   begin   [apply], between two commands. Fixes the state as it is now, quickly: a version
 *           number, a shared root, a flag that makes apply keep what it overwrites. The next
 *           command waits for it. At most one view of an instance at a time.
 *   save    [snapshot], together with apply, read and on_tick of the same instance: what
 *           both touch needs a lock, or must not change while there is a view. At most once
 *           a view.
 *   end     [apply]. Frees the view: exactly once for each begin that returned CONNECTD_OK,
 *           whether or not save was called, after save has returned, and before destroy.
 *           When the host drops the instance for another one, end and then destroy are
 *           called as [main].
 *
 * A failure of begin or save is a failed snapshot, which is tried again later. It never
 * stops the replica: neither may leave the state changed. */
#define CONNECTD_EXT_SNAPSHOT_VIEW "connectd.snapshot-view/1"
typedef struct connectd_ext_snapshot_view {
  uint32_t size, reserved;
  /* [apply] On failure *view is ignored and end is not called. `s` as for snapshot(). */
  int32_t (*begin)(void* self, const connectd_snapshot* s, void** view);
  /* [snapshot] Writes the state as it was at begin, in the format of snapshot(). `s` has the
   * values that begin was given. When out->write fails, return its code at once: it is also
   * how the host asks for an end (CONNECTD_E_CANCELLED). */
  int32_t (*save)(const void* self, void* view, const connectd_snapshot* s,
                  const connectd_sink* out);
  /* [apply] Never fails. */
  void (*end)(void* self, void* view);
} connectd_ext_snapshot_view;

/* ==== layout checks and small helpers (compiled into the plugin) ============ */
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

#define CONNECTD_PLUGIN_HEAD(name, version, level_min, level_max, flags, framing)               \
  (uint32_t)sizeof(connectd_plugin), CONNECTD_ABI, (name), (version), (level_min), (level_max), \
      (flags), (framing), 0
/* The one exported symbol, around the table given: CONNECTD_PLUGIN_HEAD(...), create, ... */
#define CONNECTD_EXPORT_PLUGIN(...)                              \
  const connectd_plugin* connectd_plugin_v1(void) {              \
    static const connectd_plugin connectd_table = {__VA_ARGS__}; \
    return &connectd_table;                                      \
  }                                                              \
  CONNECTD_SA_(exported, 1)

static inline int32_t connectd_put(const connectd_sink* s, const void* p, size_t n) {
  return s->write(s->ctx, p, n);
}
/* Exactly n bytes, or CONNECTD_E_CORRUPT at an early end, or the source's error. */
static inline int32_t connectd_get(const connectd_source* s, void* p, size_t n) {
  int64_t r = s->read(s->ctx, p, n);
  return r < 0 ? (int32_t)r : (uint64_t)r == (uint64_t)n ? CONNECTD_OK : CONNECTD_E_CORRUPT;
}
static inline int32_t connectd_put_u64(const connectd_sink* s, uint64_t v) { /* little endian */
  uint8_t b[8];
  int i;
  for (i = 0; i < 8; i++) b[i] = (uint8_t)(v >> (8 * i));
  return connectd_put(s, b, 8);
}
static inline int32_t connectd_get_u64(const connectd_source* s, uint64_t* v) {
  uint8_t b[8];
  int i;
  int32_t rc = connectd_get(s, b, 8);
  if (rc != CONNECTD_OK) return rc;
  for (*v = 0, i = 0; i < 8; i++) *v |= (uint64_t)b[i] << (8 * i);
  return CONNECTD_OK;
}
static inline int connectd_eq(connectd_bytes b, const char* lit, size_t n) {
  size_t i;
  if (b.len != n) return 0;
  for (i = 0; i < n; i++)
    if (b.ptr[i] != (uint8_t)lit[i]) return 0;
  return 1;
}
#ifdef __cplusplus
}
#endif
#endif

#include "config/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <type_traits>

#include "config/values.h"

namespace connectd::config {
namespace {

template <class E, class Get>
constexpr ChoiceField choice_field(Get) {
  return {[](Config& c, size_t i) { Get{}(c) = static_cast<E>(i); },
          [](const Config& c) { return static_cast<size_t>(Get{}(const_cast<Config&>(c))); }};
}

#define CONNECTD_FIELD(type, expression)                                             \
  Field {                                                                            \
    static_cast<type& (*)(Config&)>([](Config& c) -> type& { return c.expression; }) \
  }
#define CONNECTD_CHOICE(type, expression)                               \
  Field {                                                               \
    choice_field<type>([](Config& c) -> type& { return c.expression; }) \
  }

using TextList = std::vector<std::string>;
using TextMap = std::map<std::string, std::string>;
using MemberList = std::vector<Member>;

// Who reaches the HTTP port, and who may do what.
std::vector<Option> access_options() {
  return {
      {.path = "http.admin",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(HttpAdmin, http.admin),
       .default_text = "local",
       .choices = {"local", "loopback", "off"},
       .help = "Who may use `/v1/admin/`, which connectctl uses to change members, leadership and "
               "settings and to save snapshots. `local`: callers on this machine, over loopback "
               "or this node's own address. `loopback`: over loopback only. `off`: nobody. A "
               "caller behind a proxy on this machine, or a container that shares its network, "
               "is on this machine too."},
      {.path = "http.hosts",
       .type = Type::kTextList,
       .field = CONNECTD_FIELD(TextList, http.hosts),
       .default_text = "[]",
       .pattern = "host",
       .help = "Further names under which clients reach `/v1/call`: of a service, a proxy or a "
               "mapped port. `db.example.org` allows any port, `db.example.org:8080` this one. "
               "Other names are rejected, so that a web page cannot reach this port under a name "
               "of its own. Does not open `/v1/admin/`."},
      {.path = "admin.local",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(AdminLocal, admin.local),
       .default_text = "auto",
       .choices = {"auto", "on", "off"},
       .live = true,
       .help = "Whether callers on this machine, as `http.admin` defines them, have the roles "
               "`admin`, `monitor` and `backup` without showing anything. `auto`: while neither "
               "`auth.tokens` nor certificates of clients are configured. `on`: always, so every "
               "user of this machine administers the cluster and reads its snapshots. `off`: "
               "never."},
      {.path = "auth.tokens",
       .type = Type::kText,
       .field = CONNECTD_FIELD(std::string, auth.tokens),
       .default_text = "null",
       .pattern = "path",
       .nullable = true,
       .live = true,
       .help = "File with the tokens that this node accepts, made by `connectctl token new`. A "
               "relative path is relative to this file's directory. Only connectd's user and root "
               "may be able to read it. With it, callers need a token with the role for what they "
               "ask, on every node the same. Read at the start and by a reload, which keeps the "
               "tokens in force if the file has an error."},
      {.path = "auth.certificates",
       .type = Type::kTextMap,
       .field = CONNECTD_FIELD(TextMap, auth.certificates),
       .default_text = "{}",
       .pattern = "certificate",
       .live = true,
       .help = "Roles of clients' certificates by their names, such as `\"OU=ops\": "
               "admin,monitor`; beside `OU=`, `CN=`, `DNS=`, `URI=` and `FINGERPRINT=` (SHA-256). "
               "What is not listed counts for nothing, but for the URIs "
               "`connectd://CLUSTER/role/ROLE` and `connectd://CLUSTER/client/NAME`."},
      {.path = "auth.anonymous",
       .type = Type::kTextList,
       .field = CONNECTD_FIELD(TextList, auth.anonymous),
       .default_text = "[auto]",
       .live = true,
       .help = "Roles of callers that show neither a token nor a certificate: `read`, `write` and "
               "`monitor`, or none (`[]`). `auto`: all three while neither `auth.tokens` nor "
               "certificates of clients are configured, else none."},
  };
}

// The keys of a port's TLS, and what is to be said of each.
struct TlsTexts {
  std::string_view mode, mode_help;
  std::string_view cert, cert_help;
  std::string_view key, key_help;
  std::string_view ca, ca_help;
  std::string_view crl, crl_help;
};

template <TlsPort Config::Tls::*port>
void add_tls_port(std::vector<Option>& table, const TlsTexts& texts) {
  table.push_back(
      {.path = texts.mode,
       .type = Type::kChoice,
       .field = choice_field<TlsMode>([](Config& c) -> TlsMode& { return (c.tls.*port).mode; }),
       .default_text = "off",
       .choices = {"off", "accept", "prefer", "require"},
       .live = true,
       .help = texts.mode_help});
  auto add = [&](std::string_view path, std::string& (*field)(Config&), std::string_view help) {
    table.push_back({.path = path,
                     .type = Type::kText,
                     .field = Field{field},
                     .default_text = "null",
                     .pattern = "path",
                     .nullable = true,
                     .live = true,
                     .help = help});
  };
  add(
      texts.cert, [](Config& c) -> std::string& { return (c.tls.*port).cert; }, texts.cert_help);
  add(
      texts.key, [](Config& c) -> std::string& { return (c.tls.*port).key; }, texts.key_help);
  add(
      texts.ca, [](Config& c) -> std::string& { return (c.tls.*port).ca; }, texts.ca_help);
  add(
      texts.crl, [](Config& c) -> std::string& { return (c.tls.*port).crl; }, texts.crl_help);
}

constexpr TlsTexts kPeerTls = {
    .mode = "tls.peer.mode",
    .mode_help =
        "TLS between nodes. `off`: plain connections only. `accept`: takes both, dials plain. "
        "`prefer`: takes both, dials TLS and never falls back. `require`: TLS only. To turn it on "
        "in a running cluster, set `accept` on each node, then `prefer`, then `require`; to turn "
        "it off, go back the same way.",
    .cert = "tls.peer.cert",
    .cert_help =
        "PEM file with this node's certificate, and after it the intermediate ones. Its subject "
        "alternative names must have the URI `connectd://CLUSTER/node/ID`, and it must be valid "
        "for servers and for clients. `connectctl cert node` makes one. A relative path is "
        "relative to this file's directory. Read again at each reload, as the other files of TLS "
        "are.",
    .key = "tls.peer.key",
    .key_help =
        "PEM file with the private key of tls.peer.cert, which only the user of the "
        "process may read.",
    .ca = "tls.peer.ca",
    .ca_help =
        "PEM file with the certificates of the authorities that sign nodes' certificates: several "
        "while they change. Whoever has a certificate of one of them with a node's name is that "
        "node: sign nothing else with them.",
    .crl = "tls.peer.crl",
    .crl_help = "PEM file with the certificate revocation lists of these authorities.",
};
constexpr TlsTexts kClientTls = {
    .mode = "tls.client.mode",
    .mode_help =
        "TLS of the client port. `off`: plain connections only. `accept` and `prefer`: takes both, "
        "told apart by the first byte, which is why the framing must not be `length` then. "
        "`require`: TLS only. Plain connections that are open then end when no reply is owed.",
    .cert = "tls.client.cert",
    .cert_help =
        "PEM file with the certificate of the client port, and after it the intermediate ones. Its "
        "subject alternative names must have the names and addresses that clients use.",
    .key = "tls.client.key",
    .key_help =
        "PEM file with the private key of tls.client.cert, which only the user of the "
        "process may read.",
    .ca = "tls.client.ca",
    .ca_help =
        "PEM file with the authorities whose certificates count where clients show one. "
        "Without it no client is asked for a certificate.",
    .crl = "tls.client.crl",
    .crl_help = "PEM file with the certificate revocation lists of these authorities.",
};
constexpr TlsTexts kHttpTls = {
    .mode = "tls.http.mode",
    .mode_help =
        "TLS of the HTTP port. `off`: plain connections only. `accept`: takes both. `prefer`: "
        "takes both, and asks other members for their status inside TLS. `require`: TLS only.",
    .cert = "tls.http.cert",
    .cert_help =
        "PEM file with the certificate of the HTTP port, and after it the intermediate ones. Its "
        "subject alternative names must have the names and addresses that clients use.",
    .key = "tls.http.key",
    .key_help =
        "PEM file with the private key of tls.http.cert, which only the user of the "
        "process may read.",
    .ca = "tls.http.ca",
    .ca_help =
        "PEM file with the authorities whose certificates count: of clients that show one, and, "
        "with `prefer` and `require`, of the other members' HTTP ports. Without it no client is "
        "asked for a certificate.",
    .crl = "tls.http.crl",
    .crl_help = "PEM file with the certificate revocation lists of these authorities.",
};

std::vector<Option> tls_options() {
  std::vector<Option> table;
  add_tls_port<&Config::Tls::peer>(table, kPeerTls);
  add_tls_port<&Config::Tls::client>(table, kClientTls);
  add_tls_port<&Config::Tls::http>(table, kHttpTls);
  table.push_back(
      {.path = "tls.crl_stale",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(StaleCrl, tls.crl_stale),
       .default_text = "warn",
       .choices = {"warn", "refuse"},
       .live = true,
       .help =
           "What a revocation list whose next update is overdue means. `warn`: it goes on to "
           "count, and the log says so. `refuse`: certificates of its authority are rejected."});
  return table;
}

std::vector<Option> log_options() {
  return {
      {.path = "log.level",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(LogLevel, log.level),
       .default_text = "info",
       .choices = {"debug", "info", "warning", "error"},
       .live = true,
       .help = "Minimum severity to log. Nothing is logged per request."},
      {.path = "log.format",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(LogFormat, log.format),
       .default_text = "auto",
       .choices = {"auto", "text", "json"},
       .live = true,
       .help = "Format of the log on standard error: `text`, with a journald priority unless that "
               "is a terminal (`auto`: the same), or `json`, one object a line."},
  };
}

Option cluster_id_option() {
  return {.path = "cluster.id",
          .type = Type::kText,
          .field = CONNECTD_FIELD(std::string, cluster.id),
          .default_text = "null",
          .pattern = "cluster id",
          .nullable = true,
          .help =
              "Id of the cluster, the same on all nodes: 32 hexadecimal digits, as `connectctl "
              "status` prints them. With it, a node with an empty data directory never forms a "
              "cluster, but waits to be let in to this one: set it once the cluster is formed, "
              "so that nodes that boot without their disks do not form another. The present "
              "id and those from before a `connectctl recover` are accepted; with the data of "
              "another cluster the node does not start."};
}

std::vector<Option> make_options() {
  std::vector<Option> table;
  auto add = [&](Option option) { table.push_back(std::move(option)); };

  add({.path = "node.id",
       .type = Type::kInteger,
       .field = CONNECTD_FIELD(NodeId, node.id),
       .default_text = "1",
       .min = "1",
       .max = "9223372036854775807",
       .required = true,
       .help =
           "Number of this node, one of cluster.members. An id is never reused for another node of "
           "the same cluster. `--node` overrides it, so that one file can serve all nodes."});
  add({.path = "node.name",
       .type = Type::kText,
       .field = CONNECTD_FIELD(std::string, node.name),
       .default_note = "`n` and the id, such as n1",
       .pattern = "name",
       .help = "Display name of the node in the log and in `connectctl status`."});
  add({.path = "node.data_dir",
       .type = Type::kText,
       .field = CONNECTD_FIELD(std::string, node.data_dir),
       .default_text = "./connectd-data",
       .pattern = "path",
       .required = true,
       .help = "Directory of the log, the snapshots and the node's identity; created when missing. "
               "A relative path is relative to the working directory. `--data-dir` overrides it. A "
               "directory belongs to one node forever: never copy it."});

  add({.path = "cluster.name",
       .type = Type::kText,
       .field = CONNECTD_FIELD(std::string, cluster.name),
       .default_text = "connectd",
       .pattern = "name",
       .help = "Name of the cluster, the same on all nodes; others are rejected."});
  add(cluster_id_option());
  add({.path = "cluster.bootstrap",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(Bootstrap, cluster.bootstrap),
       .default_text = "auto",
       .choices = {"auto", "new", "join"},
       .help = "Action on an empty data directory. `auto`: form the cluster once all members "
               "answer and all are empty; until then wait, and log the missing members. `new`: "
               "form at once from this file alone, for a single node. `join`: never form; wait for "
               "a cluster that has this node as a member. Ignored when the directory has data."});
  add({.path = "cluster.members",
       .type = Type::kMembers,
       .field = CONNECTD_FIELD(MemberList, cluster.members),
       .default_note = "without a file: this node only, on 127.0.0.1 with ports 7101, 7201, 7301",
       .required = true,
       .at_formation = true,
       .help = "All members, the same on all nodes. Each has an `id` and the addresses (host:port) "
               "that others dial: `peer` for other nodes, `client` for clients, `http` for health, "
               "status and connectctl. The list of ids is read when the cluster forms, the "
               "addresses at every start."});

  add({.path = "listen.peer",
       .type = Type::kAddress,
       .field = CONNECTD_FIELD(Address, listen.peer),
       .default_note = "this member's `peer` address",
       .help = "Bind address for other nodes, if it differs from the address that they dial: "
               "0.0.0.0:7101."});
  add({.path = "listen.client",
       .type = Type::kAddress,
       .field = CONNECTD_FIELD(Address, listen.client),
       .default_note = "this member's `client` address",
       .help = "Bind address for clients."});
  add({.path = "listen.http",
       .type = Type::kAddress,
       .field = CONNECTD_FIELD(Address, listen.http),
       .default_note = "this member's `http` address",
       .help = "Bind address for HTTP."});

  for (Option& option : access_options()) add(std::move(option));

  add({.path = "plugin.path",
       .type = Type::kText,
       .field = CONNECTD_FIELD(std::string, plugin.path),
       .default_note = "none; `--plugin` sets it",
       .pattern = "path",
       .nullable = true,
       .help = "The state machine, a shared object: an absolute path, a path relative to this "
               "file's directory, or a bare name that is searched in plugin.dirs. `--plugin` "
               "overrides it and is relative to the working directory."});
  add({.path = "plugin.dirs",
       .type = Type::kTextList,
       .field = CONNECTD_FIELD(TextList, plugin.dirs),
       .default_text = "[/usr/local/lib/connectd/plugins, /usr/lib/connectd/plugins]",
       .pattern = "path",
       .help = "Directories to search for a plugin.path without a slash."});
  add({.path = "plugin.sha256",
       .type = Type::kText,
       .field = CONNECTD_FIELD(std::string, plugin.sha256),
       .default_text = "null",
       .pattern = "sha256",
       .nullable = true,
       .help = "Expected SHA-256 of the plugin file: 64 hexadecimal digits, as `sha256sum` prints "
               "them. Any other file is rejected."});
  add({.path = "plugin.allow_writable",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(AllowWritable, plugin.allow_writable),
       .default_text = "auto",
       .choices = {"auto", "on", "off"},
       .help = "Whether connectd loads a plugin that its own user could exchange: one whose file, "
               "or a directory above it, that user may write or owns (as root: that does not "
               "belong to root, or that others may write), unless plugin.sha256 pins it. `off`: it "
               "does not, so that nobody who can write files as connectd's user chooses the code "
               "of the next start. `auto`: `off` when systemd has started connectd, else `on`. "
               "Libraries that the plugin needs, and this file, are not looked at: see to those."});
  add({.path = "plugin.options",
       .type = Type::kTextMap,
       .field = CONNECTD_FIELD(TextMap, plugin.options),
       .default_text = "{}",
       .at_formation = true,
       .help = "Keys and values for the plugin; its documentation lists them. Nested keys are "
               "joined with dots (`a.b.c`); values are strings."});
  add({.path = "plugin.compare_interval",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, plugin.compare_interval),
       .default_text = "1h",
       .min = "0ms",
       .max = "168h",
       .help = "Interval at which the leader compares the states of all members. It compares only "
               "if the plugin declares that equal states give equal snapshots, and only after a "
               "write. Each member hashes a snapshot, captured as `snapshot.mode` says; with "
               "`inline`, all members stop applying and reading at about the same time. `0ms`: "
               "never. Replies are always compared, at no cost."});

  add({.path = "raft.tick",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, raft.tick),
       .default_text = "10ms",
       .min = "1ms",
       .max = "1s",
       .help = "Maximum interval between two checks of the timers."});
  add({.path = "raft.heartbeat_interval",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, raft.heartbeat_interval),
       .default_text = "50ms",
       .min = "1ms",
       .max = "1m",
       .help = "Interval at which a leader sends heartbeats to idle followers."});
  add({.path = "raft.election_timeout",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, raft.election_timeout),
       .default_text = "500ms",
       .min = "10ms",
       .max = "5m",
       .cluster_setting = true,
       .help = "A follower that hears from no leader for this long, up to twice this long at "
               "random, starts an election. At least three heartbeat intervals; the same on all "
               "nodes. A longer timeout means fewer needless elections on slow networks and longer "
               "pauses after the loss of a leader. Change it later with connectctl settings set."});
  add({.path = "raft.pre_vote",
       .type = Type::kBool,
       .field = CONNECTD_FIELD(bool, raft.pre_vote),
       .default_text = "true",
       .help = "Check that an election can be won before disrupting the leader (thesis §9.6)."});
  add({.path = "raft.check_quorum",
       .type = Type::kBool,
       .field = CONNECTD_FIELD(bool, raft.check_quorum),
       .default_text = "true",
       .help = "A leader that does not hear from a majority for an election timeout steps down "
               "(thesis §6.2)."});
  add({.path = "raft.lease_reads",
       .type = Type::kBool,
       .field = CONNECTD_FIELD(bool, raft.lease_reads),
       .default_text = "false",
       .cluster_setting = true,
       .help = "Serve `lease` reads from the leader's lease, without a round of heartbeats. They "
               "are correct while all clocks stay within max_clock_drift_percent. Requires "
               "check_quorum. While it is on, replacing a killed leader takes at least one "
               "election timeout, and a node does not vote for one election timeout after it "
               "starts. Change it later with connectctl settings set."});
  add({.path = "raft.max_clock_drift_percent",
       .type = Type::kInteger,
       .field = CONNECTD_FIELD(uint64_t, raft.max_clock_drift_percent),
       .default_text = "10",
       .min = "1",
       .max = "40",
       .cluster_setting = true,
       .help = "Maximum drift of any node's clock from real time, in percent. With a drift of D "
               "percent a lease lasts (100 - D) / (100 + D) of election_timeout. If a clock drifts "
               "more, a `lease` read may be stale; other reads and all writes never depend on it. "
               "Change it later with connectctl settings set."});
  add({.path = "raft.priority",
       .type = Type::kInteger,
       .field = CONNECTD_FIELD(uint64_t, raft.priority),
       .default_text = "100",
       .min = "0",
       .max = "255",
       .help = "Preferred leader: a leader transfers leadership to a voter of higher priority that "
               "has been reachable and caught up for ten election timeouts. 0: this node never "
               "leads; it votes and has the data."});
  add({.path = "raft.max_append_bytes",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, raft.max_append_bytes),
       .default_text = "1MiB",
       .min = "4KiB",
       .max = "16MiB",
       .help = "Maximum size of one append message to a follower; a single larger entry is still "
               "sent."});
  add({.path = "raft.inflight_bytes",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, raft.inflight_bytes),
       .default_text = "16MiB",
       .min = "64KiB",
       .max = "1GiB",
       .help = "Maximum unacknowledged data to one follower; at most 28 MiB take effect."});
  add({.path = "raft.cache_bytes",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, raft.cache_bytes),
       .default_text = "16MiB",
       .min = "64KiB",
       .max = "64GiB",
       .help = "Size of the in-memory cache of the last log entries, for followers that are "
               "slightly behind."});

  add({.path = "storage.segment_size",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, storage.segment_size),
       .default_text = "64MiB",
       .min = "64KiB",
       .max = "1GiB",
       .help = "Size of one log file. The next file is filled with zeros in advance."});
  add({.path = "storage.sync",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(SyncMode, storage.sync),
       .default_text = "always",
       .choices = {"always", "none"},
       .help = "`always`: acknowledged writes are on the disks of a majority. `none`, for "
               "experiments only: writes are not synced, and a power failure can lose acknowledged "
               "writes and corrupt the cluster."});
  add({.path = "storage.min_free_disk",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, storage.min_free_disk),
       .default_text = "256MiB",
       .min = "0B",
       .max = "1TiB",
       .help = "Minimum free space in the data directory's file system; with less, the node's disk "
               "counts as full. While no quorum of nodes has that much, the cluster rejects writes "
               "(`DISKFULL`) and still serves reads. A leader whose disk is full transfers "
               "leadership to a voter with space. `0B`: no limit."});
  add({.path = "storage.stall_timeout",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, storage.stall_timeout),
       .default_note = "2 x the cluster's `raft.election_timeout`",
       .min = "10ms",
       .max = "10m",
       .help = "When the log's disk has completed nothing for this long, a leader transfers "
               "leadership, and no node starts an election on such a disk. The default follows the "
               "log."});

  add({.path = "snapshot.log_ratio",
       .type = Type::kInteger,
       .field = CONNECTD_FIELD(uint64_t, snapshot.log_ratio),
       .default_text = "4",
       .min = "1",
       .max = "1000",
       .help = "Take a snapshot when the log since the last snapshot is this many times as large "
               "as that snapshot, so that its cost is spread over the writes that caused it."});
  add({.path = "snapshot.log_min",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, snapshot.log_min),
       .default_text = "64MiB",
       .min = "4KiB",
       .max = "1TiB",
       .help = "Minimum size of the log since the last snapshot."});
  add({.path = "snapshot.keep",
       .type = Type::kInteger,
       .field = CONNECTD_FIELD(uint64_t, snapshot.keep),
       .default_text = "2",
       .min = "1",
       .max = "100",
       .help = "Number of snapshots to keep. With one, damage to it costs the node its data."});
  add({.path = "snapshot.compression",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(Compression, snapshot.compression),
       .default_text = "zstd",
       .choices = {"zstd", "none"},
       .help = "Compression of stored and sent snapshots. A node reads both formats with either "
               "value."});
  add({.path = "snapshot.rate_limit",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, snapshot.rate_limit),
       .default_text = "none",
       .min = "1KiB",
       .max = "1TiB",
       .zero_word = "none",
       .live = true,
       .help = "Limit in bytes per second for sending snapshots, over all followers together. "
               "`none`: as fast as they accept the data. Set it for a link that writes share. A "
               "low limit is safe: an interrupted transfer resumes."});
  add({.path = "snapshot.mode",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(SnapshotMode, snapshot.mode),
       .default_text = "auto",
       .choices = {"auto", "view", "fork", "inline"},
       .help = "Capture of a snapshot. `view`: the plugin's snapshot view; `fork`: a forked child, "
               "if the plugin permits it; entries are applied meanwhile. `inline`: on the apply "
               "thread; nothing is applied or read until the snapshot is written. `auto`: the "
               "first of these that the plugin supports; after two failed captures in a row, one "
               "snapshot is written inline. `view` and `fork` never fall back to inline, and are "
               "an error with a plugin that does not support them."});
  add({.path = "snapshot.fork_timeout",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, snapshot.fork_timeout),
       .default_text = "30s",
       .min = "50ms",
       .max = "1h",
       .help = "Kill a forked child that writes nothing for this long; its snapshot fails."});
  add({.path = "snapshot.fork_memory",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, snapshot.fork_memory),
       .default_text = "0B",
       .min = "0B",
       .max = "16TiB",
       .help =
           "Maximum memory of a forked child. While the child runs, modified pages are copied, up "
           "to the size of the state. A child that uses more is killed, and its snapshot fails; "
           "the check runs once a second. `0B`: a quarter of the machine's memory, or of the limit "
           "of the control group (MemoryMax=, containers) if that is smaller."});

  add({.path = "client.framing",
       .type = Type::kChoice,
       .field = CONNECTD_CHOICE(FramingChoice, client.framing),
       .default_text = "auto",
       .choices = {"auto", "line", "resp", "length"},
       .help = "Framing of requests in a client's bytes: `line` (nc), `resp` (redis-cli), `length` "
               "(u32 little-endian, then the bytes). `auto`: as the plugin declares."});
  add({.path = "client.request_timeout",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, client.request_timeout),
       .default_text = "5s",
       .min = "10ms",
       .max = "10m",
       .help = "Deadline of a request. After it, the reply is `NOLEADER` if the request was never "
               "proposed, `UNKNOWN` if it was. Longer than an election, so that a leader change is "
               "a pause and not an error."});
  add({.path = "client.max_request",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, client.max_request),
       .default_text = "2MiB",
       .min = "1KiB",
       .max = "64MiB",
       .at_formation = true,
       .help = "Largest request, at most 32 MiB, by default up to 1/4 segment; else `TOOLARGE`."});
  add({.path = "client.max_connections",
       .type = Type::kInteger,
       .field = CONNECTD_FIELD(uint64_t, client.max_connections),
       .default_text = "10000",
       .min = "1",
       .max = "1000000",
       .help = "Maximum number of client connections. Further clients get `OVERLOADED` and are "
               "closed. A limit of open files (`LimitNOFILE`) that permits fewer counts instead."});
  add({.path = "client.max_inflight_bytes",
       .type = Type::kSize,
       .field = CONNECTD_FIELD(uint64_t, client.max_inflight_bytes),
       .default_text = "256MiB",
       .min = "1MiB",
       .max = "1TiB",
       .help = "Maximum size of all requests in progress; further requests get `OVERLOADED`. The "
               "same bound, at least 64MiB, applies to unread replies and unstarted requests."});

  for (Option& option : tls_options()) add(std::move(option));
  for (Option& option : log_options()) add(std::move(option));

  add({.path = "shutdown.transfer_timeout",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, shutdown.transfer_timeout),
       .default_text = "5s",
       .min = "0ms",
       .max = "10m",
       .live = true,
       .help = "Time limit for a stopping leader to transfer leadership."});
  add({.path = "shutdown.drain_timeout",
       .type = Type::kDuration,
       .field = CONNECTD_FIELD(Duration, shutdown.drain_timeout),
       .default_text = "10s",
       .min = "0ms",
       .max = "10m",
       .live = true,
       .help = "Time limit for the requests in progress, after the transfer."});
  return table;
}

std::string format_list(const std::vector<std::string>& list) {
  std::string text = "[";
  for (const std::string& item : list) {
    text += fmt::format("{}{}", text.size() > 1 ? ", " : "", format_text(item));
  }
  return text + "]";
}

std::string format_map(const TextMap& map) {
  std::string text = "{";
  for (const auto& [key, value] : map) {
    text += fmt::format("{}{}: \"", text.size() > 1 ? ", " : "", format_text(key));
    std::string quoted = format_text(value);
    // Always quoted: the plugin gets a string, even if it looks like a number.
    text += quoted.starts_with('"') ? quoted.substr(1) : quoted + '"';
  }
  return text + "}";
}

std::string format_members(const MemberList& members) {
  std::string text = "[";
  for (const Member& member : members) {
    text += fmt::format("{}{{id: {}, peer: \"{}\", client: \"{}\", http: \"{}\"}}",
                        text.size() > 1 ? ", " : "", member.id, member.peer.to_string(),
                        member.client.to_string(), member.http.to_string());
  }
  return text + "]";
}

}  // namespace

std::string_view type_name(Type type) {
  switch (type) {
    case Type::kBool:
      return "true or false";
    case Type::kInteger:
      return "whole number";
    case Type::kDuration:
      return "duration";
    case Type::kSize:
      return "size";
    case Type::kText:
      return "string";
    case Type::kChoice:
      return "choice";
    case Type::kAddress:
      return "address";
    case Type::kTextList:
      return "list of strings";
    case Type::kTextMap:
      return "map of strings";
    case Type::kMembers:
      return "list of members";
  }
  return "?";
}

const std::vector<Option>& options() {
  static const std::vector<Option> kTable = make_options();
  return kTable;
}

const std::vector<Section>& sections() {
  static const std::vector<Section> kTable = {
      {"node", "This node."},
      {"cluster", "The members and their bootstrap."},
      {"listen", "Bind addresses, if they differ from the addresses that others dial."},
      {"http", "Who reaches the HTTP port, and under which names."},
      {"admin", "Administration."},
      {"auth", "Who may do what (docs/operations.md)."},
      {"plugin", "The state machine that the cluster replicates."},
      {"raft", "Consensus."},
      {"storage", "The log on disk."},
      {"snapshot", "Snapshots of the state, which replace the log."},
      {"client", "The client port."},
      {"tls", "TLS of the ports: who may connect, and whether others can read along."},
      {"log", "Logging."},
      {"shutdown", "Time limits after SIGTERM or SIGINT. A second signal stops at once."},
  };
  return kTable;
}

const Option* find_option(std::string_view path) {
  for (const Option& option : options()) {
    if (option.path == path) return &option;
  }
  return nullptr;
}

std::string format_text(std::string_view text) {
  auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '/' || c == '-';
  };
  bool starts_well =
      !text.empty() && (text[0] == '/' || text[0] == '.' || text[0] == '_' ||
                        (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'));
  // Words that YAML readers do not parse as strings.
  static const std::vector<std::string_view> kReserved = {"true", "false", "null", "yes", "no",
                                                          "on",   "off",   "y",    "n"};
  std::string lower(text);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  bool reserved = std::find(kReserved.begin(), kReserved.end(), lower) != kReserved.end();
  if (starts_well && !reserved && std::all_of(text.begin(), text.end(), is_plain)) {
    return std::string(text);
  }
  std::string quoted = "\"";
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

bool is_unset(const Option& option, const Config& config) {
  auto* get = std::get_if<Duration& (*)(Config&)>(&option.field);
  if (get == nullptr || !option.default_text.empty()) return false;
  return (*get)(const_cast<Config&>(config)) == Duration::zero();
}

std::string format_value(const Option& option, const Config& config) {
  auto& c = const_cast<Config&>(config);  // the accessors serve loading too
  struct Visitor {
    const Option& option;
    Config& c;
    std::string operator()(std::monostate) const { return std::string(option.default_text); }
    std::string operator()(bool& (*get)(Config&)) const { return get(c) ? "true" : "false"; }
    std::string operator()(uint64_t& (*get)(Config&)) const {
      if (get(c) == 0 && !option.zero_word.empty()) return std::string(option.zero_word);
      return option.type == Type::kSize ? format_size(get(c)) : fmt::format("{}", get(c));
    }
    std::string operator()(NodeId& (*get)(Config&)) const { return fmt::format("{}", get(c)); }
    std::string operator()(Duration& (*get)(Config&)) const {
      if (is_unset(option, c)) return std::string(option.default_note);
      return get(c).count() == 0 ? "0ms" : format_duration(get(c));
    }
    std::string operator()(std::string& (*get)(Config&)) const {
      return get(c).empty() && option.nullable ? "null" : format_text(get(c));
    }
    std::string operator()(Address& (*get)(Config&)) const {
      return fmt::format("\"{}\"", get(c).to_string());
    }
    std::string operator()(ChoiceField field) const {
      return std::string(option.choices.at(field.get(c)));
    }
    std::string operator()(TextList& (*get)(Config&)) const { return format_list(get(c)); }
    std::string operator()(TextMap& (*get)(Config&)) const { return format_map(get(c)); }
    std::string operator()(MemberList& (*get)(Config&)) const { return format_members(get(c)); }
  };
  return std::visit(Visitor{option, c}, option.field);
}

void copy_value(const Option& option, const Config& from, Config& to) {
  auto& source = const_cast<Config&>(from);  // the accessors serve loading too
  std::visit(
      [&](const auto& field) {
        using Kind = std::decay_t<decltype(field)>;
        if constexpr (std::is_same_v<Kind, ChoiceField>) {
          field.set(to, field.get(source));
        } else if constexpr (!std::is_same_v<Kind, std::monostate>) {
          field(to) = field(source);
        }
      },
      option.field);
}

std::vector<Difference> differences(const Config& before, const Config& after) {
  std::vector<Difference> list;
  for (const Option& option : options()) {
    std::string was = format_value(option, before);
    std::string is = format_value(option, after);
    if (was != is) list.push_back({&option, std::move(was), std::move(is)});
  }
  return list;
}

}  // namespace connectd::config

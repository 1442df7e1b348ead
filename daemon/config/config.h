// The configuration of one node, as plain values: everything in it has been checked, and everything
// that was left out has its default. The option table (config/options.cc) has the meaning, the unit
// and the range of each key. Values; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/log_format.h"
#include "base/types.h"

namespace connectd::config {

struct Member {
  NodeId id;
  Address peer;
  Address client;
  Address http;
};

enum class Bootstrap : uint8_t { kAuto, kNew, kJoin };
enum class SyncMode : uint8_t { kAlways, kNone };
enum class Compression : uint8_t { kZstd, kNone };
enum class SnapshotMode : uint8_t { kAuto, kView, kFork, kInline };
// The machines that may use /v1/admin/ over HTTP.
enum class HttpAdmin : uint8_t { kLocal, kLoopback, kOff };
// Whether callers on this machine administer without a token or a certificate.
enum class AdminLocal : uint8_t { kAuto, kOn, kOff };
enum class AllowWritable : uint8_t { kAuto, kOn, kOff };
enum class FramingChoice : uint8_t {
  kAuto,
  kLine,
  kResp,
  kLength
};  // kAuto: what the plugin declares

// What a port does with TLS.
enum class TlsMode : uint8_t {
  kOff,      // takes and dials plain connections only
  kAccept,   // takes both, dials plain
  kPrefer,   // takes both, dials TLS only
  kRequire,  // TLS only
};
enum class StaleCrl : uint8_t { kWarn, kRefuse };

struct TlsPort {
  TlsMode mode = TlsMode::kOff;
  std::string cert;  // the four as written; empty: none given
  std::string key;
  std::string ca;
  std::string crl;
  bool operator==(const TlsPort&) const = default;
};

struct Config {
  struct Node {
    NodeId id;
    std::string name;  // "n1" unless given
    std::string data_dir;
  } node;
  struct Cluster {
    std::string name;
    std::string id;  // 32 lower-case hexadecimal digits, or empty
    Bootstrap bootstrap = Bootstrap::kAuto;
    std::vector<Member> members;  // sorted by id; node.id is one of them
  } cluster;
  struct Listen {  // by default this member's addresses
    Address peer;
    Address client;
    Address http;
  } listen;
  struct Http {
    HttpAdmin admin = HttpAdmin::kLocal;
    std::vector<std::string> hosts;  // "name" (any port) or "name:port"
  } http;
  struct Admin {
    AdminLocal local = AdminLocal::kAuto;
  } admin;
  struct Auth {
    std::string tokens;                               // path of the token file, or empty
    std::map<std::string, std::string> certificates;  // {"OU=ops": "admin,monitor"}
    std::vector<std::string> anonymous;               // roles, or "auto" alone
  } auth;
  struct Plugin {
    std::string path;      // as written; empty: none given
    std::string base_dir;  // what a relative path is relative to: the file's directory, or "." for
                           // one given on the command line
    std::vector<std::string> dirs;  // where a path without '/' is searched next
    std::string sha256;             // 64 lower-case digits, or empty
    AllowWritable allow_writable = AllowWritable::kAuto;
    std::map<std::string, std::string> options;  // flattened: {"a.b.c": "text"}
    Duration compare_interval{};                 // 0: never
  } plugin;
  struct Raft {
    Duration tick{};
    Duration heartbeat_interval{};
    Duration election_timeout{};
    bool pre_vote = true;
    bool check_quorum = true;
    bool lease_reads = false;
    uint64_t max_clock_drift_percent = 0;
    uint64_t priority = 0;
    uint64_t max_append_bytes = 0;
    uint64_t inflight_bytes = 0;
    uint64_t cache_bytes = 0;
  } raft;
  struct Storage {
    uint64_t segment_size = 0;
    SyncMode sync = SyncMode::kAlways;
    uint64_t min_free_disk = 0;
    Duration stall_timeout{};  // 0: not given; it follows the cluster's election timeout
  } storage;
  struct Snapshot {
    uint64_t log_ratio = 0;
    uint64_t log_min = 0;
    uint64_t keep = 0;
    Compression compression = Compression::kZstd;
    uint64_t rate_limit = 0;  // bytes a second; 0: none
    SnapshotMode mode = SnapshotMode::kAuto;
    Duration fork_timeout{};
    uint64_t fork_memory = 0;
  } snapshot;
  struct Client {
    FramingChoice framing = FramingChoice::kAuto;
    Duration request_timeout{};
    uint64_t max_request = 0;
    bool max_request_is_set = false;  // in the file
    uint64_t max_connections = 0;
    uint64_t max_inflight_bytes = 0;
  } client;
  struct Tls {
    TlsPort peer;
    TlsPort client;
    TlsPort http;
    StaleCrl crl_stale = StaleCrl::kWarn;
  } tls;
  struct Log {
    LogLevel level = LogLevel::kInfo;
    LogFormat format = LogFormat::kAuto;
  } log;
  struct Shutdown {
    Duration transfer_timeout{};
    Duration drain_timeout{};
  } shutdown;

  // Of the configuration file; "." without one.
  std::string directory = ".";

  // The member with node.id. CHECKs that there is one; load() ensures it.
  const Member& self() const;
  // The path of a certificate, a key or tokens, as written: a relative one is relative to
  // `directory`. Empty stays empty.
  std::string file_at(const std::string& path) const;
};

}  // namespace connectd::config

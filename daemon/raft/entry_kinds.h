// The kinds of log entries, one row for each: its name, who writes it, and what every part of the
// daemon must know about it. To add a kind: a number in the enum, a row in the table, and a case in
// Applier::apply_entry (the compiler asks for it). If the daemon reads its payload, it also needs a
// value of EntryPayload, and a case wherever such a payload is read: brings_conf() and
// brings_settings() show these places.
//
// Pure values. The numbers are part of the formats (docs/storage-format.md, docs/protocol.md).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "raft/feature_level.h"

namespace connectd::raft {

enum class EntryKind : uint8_t {
  kNoop = 1,         // the first entry of a term (thesis §6.4); no payload
  kCommand = 2,      // payload: the client's request, for the plugin
  kGenesis = 3,      // payload: the cluster's genesis; always index 1, term 1
  kConfChange = 4,   // payload: ConfState::encode(), then the host's details (see ConfAtIndex)
  kSessionOpen = 5,  // payload: who opens; the session's id is this entry's index
  // 6 is reserved: no connectd has written it, and none knows it.
  kTick = 7,       // no payload: the plugin's next_deadline has passed
  kCompare = 8,    // no payload: every member hashes its state at this index
  kSettings = 9,   // payload: Settings::encode(), in force from this index on
  kRecovery = 10,  // as kConfChange, but written by an operator after the loss of a majority
  // Only in builds for tests (kNextFeatureLevel), which propose it to show that they may. The next
  // real kind takes its number, and it moves on by one.
  kLevelProbe = 11,
};

// Who may write entries of a kind.
enum class EntryWriter : uint8_t {
  kHolder,   // a node that holds clients: Propose on the leader, forwarded from other nodes
  kLeader,   // the leader's host: Propose on the leader, never forwarded
  kCore,     // the leader's core: a new term, ChangeConf, ChangeSettings
  kOffline,  // the log is written without a core: bootstrap, `connectctl recover`
};

// What the payload is. All but kOpaque are decoded before they are applied, so recovery collects
// them from the log, and a follower refuses an append in which one cannot be decoded.
enum class EntryPayload : uint8_t {
  kOpaque,
  kGenesis,
  kConf,      // a configuration, in force where the entry is appended (thesis §4.1)
  kSettings,  // likewise
};

struct EntryKindRow {
  EntryKind kind;
  std::string_view name;  // in `connectctl inspect wal`
  EntryWriter writer;
  EntryPayload payload = EntryPayload::kOpaque;
  // A follower whose log is full accepts it: small, and elections or membership changes need it.
  bool passes_full_log = false;
  // Accepted by a leader that has stopped writes because disks are full.
  bool passes_stopped_writes = false;
  // `connectctl recover --skip-entry` accepts it: the plugin is called to apply it.
  bool can_be_skipped = false;
  // Takes long to apply, so never on the loop thread (docs/adr/0007-inline-apply.md).
  bool is_slow_to_apply = false;
  // The cluster's feature level from which on it may be written: that of the version that adds it.
  // A build knows the kinds up to its own highest level.
  uint32_t since_level = kFirstFeatureLevel;
};

inline constexpr std::array kEntryKinds = {
    EntryKindRow{.kind = EntryKind::kNoop,
                 .name = "noop",
                 .writer = EntryWriter::kCore,
                 .passes_full_log = true},
    EntryKindRow{.kind = EntryKind::kCommand,
                 .name = "command",
                 .writer = EntryWriter::kHolder,
                 .can_be_skipped = true},
    EntryKindRow{.kind = EntryKind::kGenesis,
                 .name = "genesis",
                 .writer = EntryWriter::kOffline,
                 .payload = EntryPayload::kGenesis},
    EntryKindRow{.kind = EntryKind::kConfChange,
                 .name = "conf change",
                 .writer = EntryWriter::kCore,
                 .payload = EntryPayload::kConf,
                 .passes_full_log = true},
    // A node opens a session to learn the outcome of its earlier proposals, so it always may.
    EntryKindRow{.kind = EntryKind::kSessionOpen,
                 .name = "session open",
                 .writer = EntryWriter::kHolder,
                 .passes_stopped_writes = true},
    EntryKindRow{.kind = EntryKind::kTick,
                 .name = "tick",
                 .writer = EntryWriter::kLeader,
                 .can_be_skipped = true},
    EntryKindRow{.kind = EntryKind::kCompare,
                 .name = "compare",
                 .writer = EntryWriter::kLeader,
                 .is_slow_to_apply = true},
    EntryKindRow{.kind = EntryKind::kSettings,
                 .name = "settings",
                 .writer = EntryWriter::kCore,
                 .payload = EntryPayload::kSettings},
    EntryKindRow{.kind = EntryKind::kRecovery,
                 .name = "recovery",
                 .writer = EntryWriter::kOffline,
                 .payload = EntryPayload::kConf,
                 .passes_full_log = true},
    EntryKindRow{.kind = EntryKind::kLevelProbe,
                 .name = "level probe",
                 .writer = EntryWriter::kLeader,
                 .since_level = kNextFeatureLevel},
};

inline constexpr uint8_t kReservedEntryKind = 6;

// Where the row of a kind is: kinds are numbered from 1, without the reserved number.
constexpr size_t entry_kind_place(uint8_t kind) {
  return kind - size_t{kind < kReservedEntryKind ? 1u : 2u};
}
static_assert([] {
  for (size_t i = 0; i < kEntryKinds.size(); ++i) {
    const auto kind = static_cast<uint8_t>(kEntryKinds[i].kind);
    if (kind == 0 || kind == kReservedEntryKind || entry_kind_place(kind) != i) return false;
  }
  return true;
}());

inline bool is_known_entry_kind(uint8_t kind) {
  return kind >= 1 && kind != kReservedEntryKind && entry_kind_place(kind) < kEntryKinds.size() &&
         kEntryKinds[entry_kind_place(kind)].since_level <= highest_feature_level();
}
// Of a known kind; decoders admit no other.
constexpr const EntryKindRow& row_of(EntryKind kind) {
  return kEntryKinds[entry_kind_place(static_cast<uint8_t>(kind))];
}

constexpr bool brings_conf(EntryKind kind) { return row_of(kind).payload == EntryPayload::kConf; }
constexpr bool brings_settings(EntryKind kind) {
  return row_of(kind).payload == EntryPayload::kSettings;
}
// What a Propose may carry.
constexpr bool may_be_proposed(EntryKind kind) {
  const EntryWriter writer = row_of(kind).writer;
  return writer == EntryWriter::kHolder || writer == EntryWriter::kLeader;
}
// What one node may ask another, the leader, to propose.
constexpr bool may_be_forwarded(EntryKind kind) {
  return row_of(kind).writer == EntryWriter::kHolder;
}

}  // namespace connectd::raft

// What stands in entries, in snapshots' metadata and in the identity file. The first byte chooses.
// What is accepted is written again, to the byte where the format has one way to say a thing.
#include "base/limits.h"
#include "base/log.h"
#include "node/apply/replicated_state.h"
#include "node/membership/genesis.h"
#include "storage/identity.h"
#include "tests/fuzz/input.h"
#include "wire/entry_codec.h"

namespace connectd {
namespace {

void entry_header(ByteView bytes) {
  if (bytes.size() < wire::kEntryHeaderBytes) return;
  raft::Entry entry;
  uint32_t payload_bytes = 0;
  if (!wire::decode_entry_header(bytes, entry, payload_bytes)) return;
  CHECK(payload_bytes <= kMaxEntryPayloadBytes && entry.index && entry.term);
  ByteView payload = bytes.subspan(wire::kEntryHeaderBytes);
  if (payload.size() != payload_bytes) return;
  entry.payload = Slice::copy_of(payload);
  uint8_t again[wire::kEntryHeaderBytes];
  wire::encode_entry_header(entry, again);
  CHECK(std::memcmp(again, bytes.data(), sizeof again) == 0);
}

void conf_state(ByteView bytes) {
  ByteReader in(bytes);
  raft::ConfState conf;
  if (!raft::ConfState::decode(in, conf) || !in.done()) return;
  CHECK(conf.encode() == as_text(bytes));
  for (NodeId id : conf.members()) CHECK(conf.is_member(id));
}

void genesis(ByteView bytes) {
  auto document = node::Genesis::decode(bytes);
  if (!document) {
    CHECK(!document.error().text.empty());
    return;
  }
  CHECK(document->encode() == as_text(bytes));
  for (const node::GenesisMember& member : document->members) {
    CHECK(document->find(member.id) != nullptr && document->conf().is_voter(member.id));
  }
}

void replicated_state(ByteView bytes) {
  auto state = node::ReplicatedState::decode(bytes);
  if (!state) {
    CHECK(!state.error().text.empty());
    return;
  }
  std::string once = state->encode();
  auto again = node::ReplicatedState::decode(as_bytes(once));
  CHECK(again && again->encode() == once);
}

void sessions(ByteView bytes) {
  ByteReader in(bytes);
  node::SessionTable table;
  if (!node::SessionTable::decode(in, table) || !in.done()) return;
  std::string once;
  table.encode(once);
  ByteReader in_again(as_bytes(once));
  node::SessionTable again;
  CHECK(node::SessionTable::decode(in_again, again) && in_again.done());
}

void member_list(ByteView bytes) {
  auto list = node::MemberList::decode(bytes);
  if (!list) {
    CHECK(!list.error().text.empty());
    return;
  }
  CHECK(list->encode() == as_text(bytes));
}

void member_change(ByteView bytes) {
  auto change = node::MemberChange::decode(bytes);
  if (change)
    CHECK(node::MemberChange::decode(as_bytes(change->encode()))->encode() == change->encode());
  auto outcome = node::ChangeOutcome::decode(bytes);
  if (outcome)
    CHECK(node::ChangeOutcome::decode(as_bytes(outcome->encode()))->text == outcome->text);
}

void session_owner(ByteView bytes) {
  wire::SessionOwner owner;
  if (wire::SessionOwner::decode(bytes, owner)) CHECK(owner.encode() == as_text(bytes));
}

void identity(ByteView bytes) {
  auto read = storage::decode_identity(bytes, "identity");
  if (!read) {
    CHECK(!read.error().text.empty());
    return;
  }
  auto again = storage::decode_identity(as_bytes(storage::encode_identity(*read)), "identity");
  CHECK(again && *again == *read);
}

}  // namespace
}  // namespace connectd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace connectd;
  fuzz::Input input(data, size);
  constexpr void (*kCodecs[])(ByteView) = {entry_header,     conf_state,  genesis,
                                           replicated_state, sessions,    session_owner,
                                           identity,         member_list, member_change};
  const uint8_t which = input.byte();
  kCodecs[which % std::size(kCodecs)](input.rest());
  return 0;
}

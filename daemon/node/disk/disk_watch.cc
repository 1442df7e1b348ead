#include "node/disk/disk_watch.h"

#include <algorithm>

#include "raft/quorum.h"

namespace connectd::node {
namespace {
// A disk is full below the limit, and has space again this part of the limit above it: a new
// segment of the log must not make the cluster stop and go.
constexpr uint64_t kHysteresis = 16;

std::set<NodeId> voters_of(const raft::ConfState& conf) {
  std::set<NodeId> voters(conf.voters.begin(), conf.voters.end());
  voters.insert(conf.voters_outgoing.begin(), conf.voters_outgoing.end());
  return voters;
}

bool same(const wire::DiskReport& a, const wire::DiskReport& b) {
  return a.leader_term == b.leader_term && a.full == b.full && a.stalled == b.stalled &&
         a.writes_stopped == b.writes_stopped;
}
}  // namespace

void DiskWatch::measured(uint64_t free_bytes) {
  free_bytes_ = free_bytes;
  const uint64_t slack = full_ ? options_.min_free_bytes / kHysteresis : 0;
  full_ = free_bytes < options_.min_free_bytes + slack;
}

void DiskWatch::progressed(bool waits, uint64_t done, Duration election_timeout, Time now) {
  const Duration stall_timeout = options_.stall_timeout > Duration::zero()
                                     ? options_.stall_timeout
                                     : kStallElectionTimeouts * election_timeout;
  // The process itself stood still: that says nothing of the disk.
  const bool slept = now - looked_ > stall_timeout / 2;
  looked_ = now;
  if (!waits || done != done_ || slept) {
    done_ = done;
    since_ = now;
  }
  stalled_ = now - since_ >= stall_timeout;
}

void DiskWatch::on_message(NodeId from, const wire::DiskReport& report, Time now) {
  reports_[from] = report;
  if (!report.leader_term || report.leader_term < said_in_) return;
  said_in_ = report.leader_term;
  said_by_ = from;
  said_stopped_ = report.writes_stopped;
  said_until_ = now + kReportsMissed * options_.interval;
}

bool DiskWatch::is_full(NodeId peer) const {
  auto report = reports_.find(peer);
  return report != reports_.end() && report->second.full;
}

bool DiskWatch::is_stalled(NodeId peer) const {
  auto report = reports_.find(peer);
  return report != reports_.end() && report->second.stalled;
}

// Who cannot be reached has no part in it: that is the quorum check's business, and requests wait.
// A new leader has yet to hear from its peers, and their silence says nothing: it goes by the last
// reports. Otherwise it would accept what the leader before it rejected, or count only the full
// peer that handed over to it.
bool DiskWatch::judge(const View& view) const {
  if (!log_has_room_) return true;  // the leader itself can take nothing
  std::map<NodeId, bool> reached;
  std::map<NodeId, bool> with_space;
  std::map<NodeId, bool> not_known_full;
  for (NodeId id : voters_of(*view.conf)) {
    const bool is_self = id == options_.self;
    const bool has_space = !(is_self ? is_full() : is_full(id));
    if (has_space) not_known_full[id] = true;
    const bool is_reached = is_self || view.near.contains(id);
    if (is_reached) reached[id] = true;
    if (has_space && (is_reached || view.is_new)) with_space[id] = true;
  }
  if (vote_result(*view.conf, reached) != raft::VoteResult::kWon) {
    return writes_stopped_ || vote_result(*view.conf, not_known_full) != raft::VoteResult::kWon;
  }
  return vote_result(*view.conf, with_space) != raft::VoteResult::kWon;
}

void DiskWatch::advance(const View& view, Time now, Effects& out) {
  if (view.leads) {
    writes_stopped_ = judge(view);
  } else if (now < said_until_ && (!view.leader || view.leader == said_by_)) {
    writes_stopped_ = said_stopped_;
  } else if (now >= said_until_) {
    writes_stopped_ = false;
  }
  const wire::DiskReport report{view.leads ? view.term : Term(), is_full(), stalled_,
                                view.leads && writes_stopped_};
  const bool to_all = !same(report, told_) || now >= tell_again_;
  for (NodeId id : view.conf->members()) {
    if (id != options_.self && (to_all || greet_.contains(id))) out.send(id, report);
  }
  greet_.clear();
  if (!to_all) return;
  told_ = report;
  tell_again_ = now + options_.interval;
}

std::vector<NodeId> DiskWatch::unfit(const raft::ConfState& conf) const {
  std::vector<NodeId> unfit;
  for (NodeId id : conf.voters) {
    if (is_stalled(id) || is_full(id)) unfit.push_back(id);
  }
  // Where all are full, one of them has to lead.
  auto is_fit = [&](NodeId id) {
    return id != options_.self && std::ranges::find(unfit, id) == unfit.end();
  };
  if (!std::ranges::any_of(conf.voters, is_fit)) {
    std::erase_if(unfit, [&](NodeId id) { return !is_stalled(id); });
  }
  return unfit;
}

bool DiskWatch::others_suffice(const View& view) const {
  std::map<NodeId, bool> working;
  for (NodeId id : view.near) {
    if (!is_stalled(id)) working[id] = true;
  }
  return vote_result(*view.conf, working) == raft::VoteResult::kWon;
}

bool DiskWatch::others_have_space(const View& view) const {
  return std::ranges::any_of(view.conf->voters, [&](NodeId id) {
    auto report = reports_.find(id);
    return view.near.contains(id) && report != reports_.end() && !report->second.full &&
           !report->second.stalled;
  });
}

}  // namespace connectd::node

#include "node/threads.h"

#include <utility>

namespace connectd::node {

Threads::Threads(const NodeOptions& options, const Genesis& genesis, const NodeHost& host,
                 Opened opened)
    : store(std::move(opened.snapshots)),
      log(std::move(opened.log)),
      writer(*log, *host.supervisor, host.metrics),
      applier({options.id, options.incarnation, options.apply_inline, options.apply_inline_ns_max,
               options.wall_clock, options.apply_observer, opened.skips, opened.initial.last_index,
               host.capturer, options.apply_replies_max, options.apply_run_replies, host.metrics},
              std::move(opened.start), *store, *host.supervisor),
      worker({host.files, host.data_dir, genesis, opened.skips}, *log, *store, host.plugin,
             *host.supervisor),
      snapshotter(*store, *host.supervisor) {}

void Threads::carry_out(jobs::Orders& orders) {
  for (jobs::WorkerTask& task : orders.tasks) worker.submit(std::move(task));
  for (auto& capture : orders.releases) applier.release(std::move(capture));
  if (orders.take_snapshot) applier.take_snapshot(*orders.take_snapshot);
  if (orders.cancel_snapshot) snapshotter.cancel();
}

}  // namespace connectd::node

#include "app/shutdown.h"

namespace connectd::app {

void Shutdown::begin(Duration transfer_timeout, Duration drain_timeout, Time now) {
  begun_ = true;
  transfer_by_ = now + transfer_timeout;
  end_by_ = now + drain_timeout;
}

bool Shutdown::advance(const View& view, Time now) {
  if (at_once_ || now >= end_by_ || !view.has_node) {
    done_ = true;
    return false;
  }
  if (view.leads_others && now < transfer_by_) return false;
  if (view.held > 0 || view.shows_removal || draining_) return false;
  draining_ = true;
  return true;
}

}  // namespace connectd::app

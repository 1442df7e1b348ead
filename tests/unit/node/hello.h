// The hello of a node that says no more than who it is. For tests that deliver messages themselves.
#pragma once

#include "wire/handshake.h"

namespace connectd::node {

inline wire::Hello hello_of(NodeId id, const DiskId& disk = {}) {
  wire::Hello hello;
  hello.node_id = id;
  hello.disk_id = disk;
  return hello;
}

}  // namespace connectd::node

// Where a reply's bytes go: a plain function pointer, so that the engine needs nothing of the
// plugin interface.
#pragma once

#include <cstddef>

namespace connectd::kv {

// Accepts all bytes. Its owner records a failure.
struct Output {
  void* context;
  void (*write)(void* context, const void* data, size_t size);
};

}  // namespace connectd::kv

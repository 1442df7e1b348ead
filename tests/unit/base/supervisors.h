// Supervisors for threads that a test drives.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <utility>

#include "base/supervisor.h"

namespace connectd {

// Records the calls. `error` is the first one; read it when the threads have ended.
struct RecordingSupervisor final : Supervisor {
  void wake() override { ++wakes; }
  void fail(Error told) override {
    if (++failures == 1) error = std::move(told);
  }

  std::atomic<int> wakes{0};
  std::atomic<int> failures{0};
  std::optional<Error> error;
};

// For tests in which nothing may fail.
struct StrictSupervisor final : Supervisor {
  void wake() override { ++wakes; }
  void fail(Error error) override { ADD_FAILURE() << error.text; }

  std::atomic<int> wakes{0};
};

}  // namespace connectd

// Closed-loop load on etcd, to stand beside redis-benchmark on connectd: C channels with P puts in
// flight on each, through the asynchronous C++ client of gRPC, one thread.
//
//   etcd_load HOST:PORT CHANNELS IN_FLIGHT_PER_CHANNEL PUTS VALUE_BYTES
//
// Prints writes a second and latency percentiles. A benchmark, not a test.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "etcd_kv.grpc.pb.h"

namespace {
using Clock = std::chrono::steady_clock;

struct Put {
  etcdserverpb::KV::Stub* stub = nullptr;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<etcdserverpb::PutResponse>> reader;
  etcdserverpb::PutRequest request;
  etcdserverpb::PutResponse response;
  grpc::Status status;
  Clock::time_point sent;
};

void start(Put& put, grpc::CompletionQueue& queue, unsigned& seed) {
  put.request.set_key("key:" + std::to_string(rand_r(&seed) % 100000));
  put.context = std::make_unique<grpc::ClientContext>();
  put.sent = Clock::now();
  put.reader = put.stub->AsyncPut(put.context.get(), put.request, &queue);
  put.reader->Finish(&put.response, &put.status, &put);
}
}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr,
                 "usage: etcd_load HOST:PORT CHANNELS IN_FLIGHT_PER_CHANNEL PUTS VALUE_BYTES\n");
    return 64;
  }
  size_t channels = std::strtoul(argv[2], nullptr, 10);
  size_t in_flight = std::strtoul(argv[3], nullptr, 10);
  size_t puts = std::strtoul(argv[4], nullptr, 10);
  std::string value(std::strtoul(argv[5], nullptr, 10), 'x');

  std::vector<std::unique_ptr<etcdserverpb::KV::Stub>> stubs;
  for (size_t i = 0; i < channels; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("connectd.channel", static_cast<int>(i));  // a connection of its own
    stubs.push_back(etcdserverpb::KV::NewStub(
        grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), arguments)));
  }
  grpc::CompletionQueue queue;
  unsigned seed = 1;
  std::vector<Put> slots(std::min(channels * in_flight, puts));
  Clock::time_point begin = Clock::now();
  size_t started = 0;
  for (Put& put : slots) {
    put.stub = stubs[started % channels].get();
    put.request.set_value(value);
    start(put, queue, seed);
    ++started;
  }
  std::vector<double> latencies_ms;
  latencies_ms.reserve(puts);
  void* tag = nullptr;
  bool ok = false;
  while (latencies_ms.size() < puts && queue.Next(&tag, &ok)) {
    Put& put = *static_cast<Put*>(tag);
    if (!put.status.ok()) {
      std::fprintf(stderr, "put failed: %s\n", put.status.error_message().c_str());
      return 1;
    }
    latencies_ms.push_back(
        std::chrono::duration<double, std::milli>(Clock::now() - put.sent).count());
    if (started < puts) {
      start(put, queue, seed);
      ++started;
    }
  }
  double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::sort(latencies_ms.begin(), latencies_ms.end());
  auto percentile = [&](double p) {
    return latencies_ms[static_cast<size_t>(p * static_cast<double>(latencies_ms.size() - 1))];
  };
  std::printf("%.0f writes/s, p50 %.3f ms, p99 %.3f ms, max %.3f ms (%zu puts, %zu in flight)\n",
              static_cast<double>(puts) / seconds, percentile(0.5), percentile(0.99),
              latencies_ms.back(), puts, slots.size());
  return 0;
}

#include "net/names.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace connectd::net {
namespace {

namespace ip = boost::asio::ip;

// A name that took longer counts as slow the next time.
constexpr Duration kSlow = std::chrono::seconds(1);
// Names that are remembered: more than a cluster has members.
constexpr size_t kMaxKnown = 256;

ip::address address_of(const sockaddr& from) {
  if (from.sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &from, sizeof v4);
    return ip::address_v4(ntohl(v4.sin_addr.s_addr));
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &from, sizeof v6);
  ip::address_v6::bytes_type bytes{};
  std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
  return ip::address_v6(bytes, v6.sin6_scope_id);
}

}  // namespace

// What the threads need. They end when it is closed, those that are stuck when they return.
struct Names::Pool : std::enable_shared_from_this<Pool> {
  using Report = std::function<void(const std::string& host, const Found& found)>;
  Pool(boost::asio::io_context& context, Look function) : io(context), look(std::move(function)) {}

  boost::asio::io_context& io;  // only while it is not closed
  const Look look;
  Mutex mutex;
  Condition ready;
  bool closed GUARDED_BY(mutex) = false;
  size_t threads GUARDED_BY(mutex) = 0;
  size_t idle GUARDED_BY(mutex) = 0;
  size_t slow_now GUARDED_BY(mutex) = 0;
  std::deque<std::string> queue GUARDED_BY(mutex);
  std::set<std::string> slow GUARDED_BY(mutex);
  Report report;  // on the thread of `io`

  // A name that a thread looks up.
  struct Job {
    std::string host;
    bool is_slow;  // was the last time
  };
  // The next one that may be taken.
  std::optional<Job> take() REQUIRES(mutex) {
    for (auto at = queue.begin(); at != queue.end(); ++at) {
      const bool is_slow = slow.contains(*at);
      if (is_slow && slow_now + 1 >= kMaxThreads) continue;
      Job job{std::move(*at), is_slow};
      queue.erase(at);
      if (is_slow) ++slow_now;
      return job;
    }
    return std::nullopt;
  }
  // Nothing: it is closed.
  std::optional<Job> wait_for_job();
  // False: it is closed.
  bool finish(const Job& job, bool is_slow, const Found& found);
  void run();
  // Why there is no thread at all; empty: there is one.
  std::string submit(const std::string& host);
};

void Names::Pool::run() {
  while (std::optional<Job> job = wait_for_job()) {
    const Time begin = read_clocks().time;
    const Found found = look(job->host);
    if (!finish(*job, read_clocks().time - begin > kSlow, found)) return;
  }
}

std::optional<Names::Pool::Job> Names::Pool::wait_for_job() {
  MutexLock lock(mutex);
  while (!closed) {
    if (std::optional<Job> job = take()) return job;
    ++idle;
    ready.wait(lock);
    --idle;
  }
  return std::nullopt;
}

bool Names::Pool::finish(const Job& job, bool is_slow, const Found& found) {
  MutexLock lock(mutex);
  if (job.is_slow) --slow_now;
  if (closed) return false;
  if (!is_slow) {
    slow.erase(job.host);
  } else if (slow.size() < kMaxKnown) {
    slow.insert(job.host);
  }
  ready.notify_all();  // there may be a thread for a slow name again
  boost::asio::post(io, [weak = weak_from_this(), host = job.host, found] {
    if (auto pool = weak.lock(); pool && pool->report) pool->report(host, found);
  });
  return true;
}

std::string Names::Pool::submit(const std::string& host) {
  {
    MutexLock lock(mutex);
    queue.push_back(host);
    ready.notify_all();
    if (idle > 0 || threads == kMaxThreads) return {};
    ++threads;
  }
  auto thread = start_thread("resolver", [pool = shared_from_this()] { pool->run(); });
  if (thread) {
    thread->detach();
    return {};
  }
  MutexLock lock(mutex);
  if (--threads > 0) return {};  // those that there are do it
  queue.clear();
  return thread.error().text;
}

Names::Names(boost::asio::io_context& io, Look look)
    : io_(io), pool_(std::make_shared<Pool>(io, std::move(look))) {
  pool_->report = [this](const std::string& host, const Found& found) { learn(host, found); };
}

Names::~Names() {
  pool_->report = nullptr;
  {
    MutexLock lock(pool_->mutex);
    pool_->closed = true;
  }
  pool_->ready.notify_all();
}

void Names::ask(const std::string& host, Done done) {
  if (std::optional<Found> number = read_number(host)) {
    boost::asio::post(io_, [found = std::move(*number), done = std::move(done)] { done(found); });
    return;
  }
  std::vector<Done>& waiting = waiting_[host];
  waiting.push_back(std::move(done));
  if (waiting.size() > 1) return;
  if (std::string why = pool_->submit(host); !why.empty()) {
    boost::asio::post(io_, [weak = std::weak_ptr(pool_), host, why] {
      if (auto pool = weak.lock(); pool && pool->report) pool->report(host, tl::unexpected(why));
    });
  }
}

void Names::find(const std::string& host, Done done) {
  auto at = known_.find(host);
  if (at == known_.end()) return ask(host, std::move(done));
  boost::asio::post(
      io_, [addresses = at->second.addresses, done = std::move(done)] { done(addresses); });
  if (std::exchange(at->second.is_asked, true)) return;
  ask(host, [](const Found&) {});
}

void Names::learn(const std::string& host, const Found& found) {
  if (found) {
    if (known_.size() >= kMaxKnown && !known_.contains(host)) known_.clear();
    Known& known = known_[host];
    // The order of what is known says what worked.
    Addresses addresses;
    for (const ip::address& address : known.addresses) {
      if (std::ranges::find(*found, address) != found->end()) addresses.push_back(address);
    }
    for (const ip::address& address : *found) {
      if (std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
    }
    known.addresses = std::move(addresses);
  }
  if (auto at = known_.find(host); at != known_.end()) at->second.is_asked = false;
  std::vector<Done> waiting;
  if (auto at = waiting_.find(host); at != waiting_.end()) {
    waiting = std::move(at->second);
    waiting_.erase(at);
  }
  for (const Done& done : waiting) done(found);
}

void Names::worked(const std::string& host, const ip::address& address) {
  auto at = known_.find(host);
  if (at == known_.end()) return;
  Addresses& addresses = at->second.addresses;
  auto found = std::ranges::find(addresses, address);
  if (found != addresses.end()) std::rotate(addresses.begin(), found, found + 1);
}

void Names::failed(const std::string& host) {
  auto at = known_.find(host);
  if (at == known_.end()) return;
  Addresses& addresses = at->second.addresses;
  std::rotate(addresses.begin(), addresses.begin() + 1, addresses.end());
}

std::optional<Names::Found> Names::read_number(const std::string& host) {
  boost::system::error_code error;
  const size_t percent = host.find('%');
  const ip::address number = ip::make_address(host.substr(0, percent), error);
  if (error) return std::nullopt;
  if (percent != std::string::npos) return look_up(host);
  return Addresses{number};
}

Names::Found Names::look_up(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list); error != 0) {
    return tl::unexpected(error == EAI_SYSTEM ? errno_text(errno)
                                              : std::string(::gai_strerror(error)));
  }
  Addresses addresses;
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
    const ip::address address = address_of(*at->ai_addr);
    if (std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
  }
  ::freeaddrinfo(list);
  if (addresses.empty()) return tl::unexpected<std::string>("it has no address");
  return addresses;
}

}  // namespace connectd::net

// Names of machines to addresses, with the system's resolver (getaddrinfo: /etc/hosts and
// nsswitch.conf count), which may take long. It runs on threads of its own, at most four; names
// that are known to be slow get at most three of them, so that a name server that does not answer
// for some hosts holds up no others for longer than a first lookup. Nobody ever waits for the
// threads: at the end they are left behind.
//
// An address that worked is remembered and given out at once, while the name is asked for again.
//
// One thread, that of the io_context.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

namespace boost::asio {
class io_context;
}

namespace connectd::net {

class Names final {
 public:
  using Addresses = std::vector<boost::asio::ip::address>;
  // Not empty; or why there are none.
  using Found = tl::expected<Addresses, std::string>;
  using Done = std::function<void(const Found&)>;
  // The blocking call; another one in tests. On any of the threads.
  using Look = std::function<Found(const std::string& host)>;

  // `io` must live as long as this does.
  explicit Names(boost::asio::io_context& io) : Names(io, look_up) {}
  Names(boost::asio::io_context& io, Look look);
  // Nothing is called any more.
  ~Names();
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  // Asks the system. `done` is called once, from the io_context. Several questions for one name are
  // one.
  void ask(const std::string& host, Done done);
  // As ask(), but what is known is given out at once. For those who dial.
  void find(const std::string& host, Done done);
  // Whether an address that find() gave out could be connected to. The first one is the one that
  // worked last; one that failed comes last.
  void worked(const std::string& host, const boost::asio::ip::address& address);
  void failed(const std::string& host);

  static constexpr size_t kMaxThreads = 4;

  // A number needs no resolver: nothing if it is a name. The zone of a link-local address is an
  // interface, which may be missing.
  static std::optional<Found> read_number(const std::string& host);
  // getaddrinfo. May take long for a name.
  static Found look_up(const std::string& host);

 private:
  struct Pool;
  struct Known {
    Addresses addresses;
    bool is_asked = false;
  };

  void learn(const std::string& host, const Found& found);

  boost::asio::io_context& io_;
  const std::shared_ptr<Pool> pool_;  // shared with the threads
  std::map<std::string, Known> known_;
  std::map<std::string, std::vector<Done>> waiting_;
};

}  // namespace connectd::net

// The socket of one connection between two nodes: dials it, reads into its channel, writes what the
// channel has to send. What the bytes mean is the channel's and Peers' business.
//
// Loop thread. Held by shared pointers: the owner's, and one in each outstanding Asio handler.
// After close() the owner hears nothing more.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <optional>
#include <string>

#include "base/address.h"
#include "net/names.h"
#include "net/stream.h"
#include "tls/handshakes.h"
#include "transport/channel.h"

namespace connectd::transport {

class Link;

// How a connection is dialled inside TLS.
struct SecureDial {
  tls::Handshakes* handshakes;  // must live as long as the link
  std::shared_ptr<const tls::Credentials> credentials;
  std::string uri;  // that the other side's certificate must have
};

// Never called from inside a function of Link.
class LinkOwner {
 public:
  virtual void on_connected(Link& link, const boost::asio::ip::tcp::endpoint& remote) = 0;
  virtual void on_dial_failed(Link& link, const std::string& why) = 0;
  // So many bytes came into the channel's read_space().
  virtual void on_read(Link& link, size_t bytes) = 0;
  // The other side has closed it, behind its last byte.
  virtual void on_ended(Link& link) = 0;
  virtual void on_failed(Link& link, const std::string& why) = 0;

 protected:
  ~LinkOwner() = default;
};

class Link final : public std::enable_shared_from_this<Link> {
 public:
  using tcp = boost::asio::ip::tcp;

  // Of an attempt to dial: call dial(). `owner` must live until close().
  Link(std::shared_ptr<Channel> channel, boost::asio::io_context& io, LinkOwner& owner);
  // Of a connection that was accepted, after its TLS handshake: call start().
  Link(std::shared_ptr<Channel> channel, net::Stream stream, LinkOwner& owner);

  const std::shared_ptr<Channel>& channel() const { return channel_; }
  const net::Stream& stream() const { return stream_; }

  // Resolves, if the host is a name, and tries the addresses in turn; then shakes hands as `tls`
  // says, none: the connection is plain. `names` must live until close().
  void dial(const Address& address, net::Names& names, std::optional<SecureDial> tls);
  // Sets the socket's options and starts reading.
  void start();
  // Sends what the socket takes at once; the rest follows by itself.
  void write();
  void close();

 private:
  void connect(const net::Names::Addresses& addresses);
  void shake_hands(const tcp::endpoint& remote);
  void connected(const tcp::endpoint& remote);
  void dial_failed(const std::string& why);
  void read();
  void wait_writable();
  // Tells the owner, from the loop.
  void fail_later(std::string why);

  const std::shared_ptr<Channel> channel_;
  net::Stream stream_;
  LinkOwner* owner_;             // null: closed
  net::Names* names_ = nullptr;  // while it dials
  Address address_;              // that is dialled
  std::optional<SecureDial> tls_;
  bool is_waiting_writable_ = false;
  bool is_failed_ = false;  // fail_later() was called
};

}  // namespace connectd::transport

// One dynamic authorization client (RFC 5176) for all NAS: a thread on epoll that signs, sends,
// retransmits (RFC 5080 2.2.1) and matches answers. Limits on everything that could pile up.
#pragma once

#include <addrflow/radius/packet.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace addrflow::radius {

using Clock = std::chrono::steady_clock;

struct ClientSettings {
  // RFC 5080 2.2.1: first wait, longest wait, sendings and time in all.
  std::chrono::milliseconds initial_wait{2'000};
  std::chrono::milliseconds max_wait{16'000};
  int max_sendings = 5;
  std::chrono::milliseconds max_duration{30'000};

  // Outstanding requests a NAS; above 64 a FreeRADIUS loses requests in its socket buffer.
  std::size_t window = 32;
  // Requests a second and NAS, and how many may come at once. A BNG does some dozens a second.
  double rate = 100;
  double burst = 50;
  // Requests that wait for one NAS, and for all. One more is refused.
  std::size_t max_queued_per_nas = 10'000;
  std::size_t max_queued = 100'000;

  // How long an identifier of a source port rests before it is taken again: the NAS's window for
  // duplicates. Where none has rested a new port is opened, up to the limit; then the one that has
  // rested longest is taken.
  std::chrono::seconds identifier_rest{300};
  std::size_t max_ports_per_nas = 32;
  // RadSec: the first wait before another connection, doubled up to the longest.
  std::chrono::milliseconds reconnect_wait{500};
  std::chrono::milliseconds reconnect_max_wait{30'000};
  // RadSec: a NAS that has requests of ours and is silent for so long is asked whether it is there
  // (Status-Server, RFC 3539 3.4); after as long again the connection is taken for dead.
  std::chrono::milliseconds watchdog{5'000};
  // Sockets of a NAS that had nothing to do for so long are closed.
  std::chrono::seconds idle_close{600};
  // An answer with another Event-Timestamp than now, give or take this, is discarded. 0: any.
  std::chrono::seconds timestamp_window{300};
};

// Refuses settings that cannot work, naming the one; empty: all well.
std::string check(const ClientSettings& settings);

enum class Transport {
  kUdp,
  kRadsec,  // RADIUS over TLS (RFC 6614): one connection a NAS, with certificates on both sides
};

// Names of PEM files; read when a connection is made, so that they can be renewed.
struct TlsFiles {
  std::string ca;           // who signs the NAS's certificate
  std::string certificate;  // ours, with its chain
  std::string key;
  std::string server_name;  // in the NAS's certificate; empty: the host as it was given

  bool operator==(const TlsFiles&) const = default;
};

struct Request {
  std::string host;  // IPv4 or IPv6 address, or a name (resolved in the caller's thread)
  std::uint16_t port = 3799;
  std::string secret;
  // While a secret is changed: answers may be keyed by either, and after half of the sendings
  // without an answer this one signs. Whichever the NAS has answered to goes first from then on.
  std::string next_secret;
  Transport transport = Transport::kUdp;
  TlsFiles tls;
  // This NAS's own limits; 0: those of the client.
  double rate = 0;
  std::size_t window = 0;
  // The first of a burst to a resting NAS waits for a random part of this, so that a thousand of
  // them do not all begin at once.
  std::chrono::milliseconds jitter{0};
  Code code = Code::kCoaRequest;
  std::vector<Attribute> attributes;  // Event-Timestamp and Message-Authenticator are added
  // Requests of one session go one after the other (accel-ppp is silent to a second one). Empty: no
  // such session.
  std::string session;
  // After this moment nothing is sent any more.
  Clock::time_point deadline = Clock::time_point::max();
  bool demand_message_authenticator = false;  // of a NAS that is known to send it
};

struct Outcome {
  enum class Kind {
    kAck,
    kNak,
    kTimeout,     // sent, and no answer: nobody knows whether the NAS took it
    kLocalError,  // never sent
  };
  Kind kind = Kind::kLocalError;
  std::optional<std::uint32_t> error_cause;
  std::string detail;        // the NAS's Reply-Message, or what went wrong here
  int sendings = 0;          // datagrams that left
  bool unreachable = false;  // the NAS's host refused the port (ICMP); it may be booting
};

struct Counters {
  std::uint64_t requests = 0;
  std::uint64_t sent = 0;  // datagrams
  std::uint64_t retransmissions = 0;
  std::uint64_t acks = 0;
  std::uint64_t naks = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t invalid_answers = 0;     // not valid by our secret: look at the secret
  std::uint64_t unexpected_answers = 0;  // late ones and those to no request of ours
  std::uint64_t refused_ports = 0;
  std::uint64_t connections = 0;         // of RadSec, shaken hands
  std::uint64_t status_requests = 0;     // Status-Server, on RadSec
  std::uint64_t failed_connections = 0;  // of RadSec, lost or never made
};

// Thread-safe. The destructor ends everything under way: what was sent as kTimeout, the rest as
// kLocalError.
class Client {
 public:
  using Callback = std::function<void(const Outcome&)>;
  using Ticket = std::uint64_t;

  // Throws std::invalid_argument for settings that cannot work, std::system_error without epoll.
  explicit Client(ClientSettings settings = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // `done` runs exactly once, on the client's own thread: it must be quick and must not wait for
  // another request. May run before this returns.
  Ticket submit(Request request, Callback done);
  // No more sendings of that request; it ends as kTimeout when it had left, else as kLocalError.
  void cancel(Ticket ticket);
  // Submits and waits. Not to be called from a callback.
  Outcome send(Request request);

  Counters counters() const;

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace addrflow::radius

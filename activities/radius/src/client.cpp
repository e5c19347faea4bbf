#include "addrflow/radius/client.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "tls_stream.hpp"

namespace addrflow::radius {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

constexpr std::size_t kIdentifiers = 256;
constexpr std::uint8_t kStatusIdentifier = 0;  // of RadSec only (RFC 6613 2.6.5)
constexpr int kReceiveBuffer = 1 << 20;        // a burst of answers must not be lost on our side

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  // What two requests to the same NAS have in common.
  std::string key() const { return {reinterpret_cast<const char*>(&storage), size}; }
};

// An address is no matter for the resolver, which takes its time.
bool read_address(const std::string& host, std::uint16_t port, Address& address) {
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof *v4;
    return true;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof *v6;
    return true;
  }
  return false;
}

std::expected<Address, std::string> resolve(const std::string& host, std::uint16_t port) {
  if (Address address; read_address(host, port, address)) return address;
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) {
    return std::unexpected(fmt::format("cannot resolve {}: {}", host, gai_strerror(code)));
  }
  Address address;
  address.size = found->ai_addrlen;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return address;
}

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct Nas;
struct Port;
struct Exchange;

// Something to do at a time: look at an exchange, at a NAS whose rate was used up, or at a RadSec
// connection that is silent.
struct Alarm {
  Exchange* exchange = nullptr;
  Nas* nas = nullptr;
  Port* silent = nullptr;
};
using Alarms = std::multimap<Clock::time_point, Alarm>;

// A packet of a request: it keeps its identifier and every octet over all repetitions. A request
// has a second one when it is signed anew with the secret that follows.
struct Form {
  Port* port = nullptr;
  std::vector<std::uint8_t> octets;
  const std::string* secret = nullptr;        // of the exchange's request
  const std::string* other_secret = nullptr;  // answers may be keyed by it too; null: none
};

// A request on its way: queued, then outstanding in a slot of a port.
struct Exchange {
  Client::Ticket ticket = 0;
  Request request;
  Client::Callback done;
  Nas* nas = nullptr;
  bool holds_session = false;
  bool starting = false;    // taken from the queue
  bool in_outbox = false;   // a packet of it leaves with the next flush
  bool handed_out = false;  // RadSec: given to the connection that is there now

  std::array<Form, 2> forms;
  std::size_t form_count = 0;  // 0: queued
  Clock::time_point ends{};    // no more waiting after this
  milliseconds wait{};
  int sendings = 0;
  bool unreachable = false;
  std::optional<Alarms::iterator> alarm;

  Form& form() { return forms[form_count - 1]; }
};

struct Port {
  Descriptor socket;                  // UDP, or…
  std::unique_ptr<TlsStream> stream;  // …RadSec; null: not connected
  std::uint32_t watched = 0;          // the events that epoll reports for the stream
  Nas* nas = nullptr;
  std::array<Exchange*, kIdentifiers> slots{};
  std::array<Clock::time_point, kIdentifiers> used{};  // epoch: never
  std::vector<Exchange*> outbox;
  // RadSec's watchdog, armed while requests are with the NAS.
  std::optional<Alarms::iterator> watchdog;
  std::vector<std::uint8_t> status;  // the Status-Server that waits for its answer
  std::string status_secret;
};

struct Nas {
  Address address;
  std::string key;
  Transport transport = Transport::kUdp;
  TlsFiles tls;
  std::string host;
  double rate = 0;
  double burst = 0;
  std::size_t window = 0;
  std::vector<std::unique_ptr<Port>> ports;
  std::size_t next = 0;  // round robin over (port, identifier)
  std::deque<Exchange*> queue;
  // Sessions with a request outstanding, and the requests that wait for it.
  std::unordered_map<std::string, std::vector<Exchange*>> sessions;
  std::size_t outstanding = 0;
  std::size_t queued = 0;  // in `queue` and behind sessions
  bool dispatching = false;
  double tokens = 0;
  Clock::time_point refilled{};
  Clock::time_point touched{};
  Clock::time_point not_before{};  // jitter
  std::string trusted_secret;      // the one that it answered with last, while a secret is changed
  // RadSec
  milliseconds reconnect_wait{0};
  Clock::time_point reconnect_at{};
  std::string trouble;  // why there is no connection
  std::optional<Alarms::iterator> alarm;
};

// One receiver for all sockets: several datagrams a system call.
class Receiver {
 public:
  static constexpr std::size_t kBatch = 32;

  Receiver() {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts_[i] = {.iov_base = buffers_[i].data(), .iov_len = buffers_[i].size()};
      messages_[i].msg_hdr = {};
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  // How many came; -1 and errno as recvmmsg.
  int receive(int fd) { return ::recvmmsg(fd, messages_.data(), kBatch, MSG_DONTWAIT, nullptr); }
  std::span<const std::uint8_t> datagram(int i) const {
    const auto at = static_cast<std::size_t>(i);
    return {buffers_[at].data(), messages_[at].msg_len};
  }

 private:
  std::array<std::array<std::uint8_t, kMaxPacketSize + 1>, kBatch> buffers_;
  std::array<iovec, kBatch> parts_{};
  std::array<mmsghdr, kBatch> messages_{};
};

}  // namespace

std::string check(const ClientSettings& s) {
  if (s.initial_wait <= milliseconds{0}) return "initial_wait must be positive";
  if (s.max_wait < s.initial_wait) return "max_wait must not be below initial_wait";
  if (s.max_sendings < 1 || s.max_sendings > 20) return "max_sendings must be within 1 and 20";
  if (s.max_duration < s.initial_wait) return "max_duration must not be below initial_wait";
  if (s.window < 1 || s.window > 64) return "window must be within 1 and 64";
  if (!(s.rate > 0)) return "rate must be positive";
  if (!(s.burst >= 1)) return "burst must be at least 1";
  if (s.max_queued < 1 || s.max_queued_per_nas < 1) return "max_queued must be at least 1";
  if (s.reconnect_wait <= milliseconds{0} || s.reconnect_max_wait < s.reconnect_wait) {
    return "reconnect_wait must be positive and not above reconnect_max_wait";
  }
  if (s.watchdog <= milliseconds{0}) return "watchdog must be positive";
  if (s.max_ports_per_nas < 1 || s.max_ports_per_nas > 256) {
    return "max_ports_per_nas must be within 1 and 256";
  }
  return {};
}

class Client::Loop {
 public:
  explicit Loop(ClientSettings settings)
      : settings_(settings),
        epoll_(epoll_create1(EPOLL_CLOEXEC)),
        wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (const std::string wrong = check(settings_); !wrong.empty()) {
      throw std::invalid_argument("radius client: " + wrong);
    }
    if (epoll_.get() < 0 || wake_.get() < 0) {
      throw std::system_error(errno, std::system_category(), "radius client: epoll");
    }
    watch(wake_.get(), nullptr);
    thread_ = std::thread{[this] { run(); }};
  }

  ~Loop() {
    stopping_ = true;
    ring();
    thread_.join();
  }

  Ticket submit(Request request, Callback done) {
    const Ticket ticket = ++last_ticket_;
    if (request.window > 64) {
      done({.kind = Outcome::Kind::kLocalError, .detail = "window must be at most 64"});
      return ticket;
    }
    auto address = resolve(request.host, request.port);
    if (!address) {
      done({.kind = Outcome::Kind::kLocalError, .detail = address.error()});
      return ticket;
    }
    // The limit is taken here, so that a caller who is faster than the network is told at once.
    if (waiting_.fetch_add(1) >= settings_.max_queued) {
      --waiting_;
      done({.kind = Outcome::Kind::kLocalError, .detail = "too many requests wait"});
      return ticket;
    }
    auto exchange = std::make_unique<Exchange>();
    exchange->ticket = ticket;
    exchange->request = std::move(request);
    exchange->done = std::move(done);
    bool first = false;
    {
      const std::lock_guard lock{mutex_};
      first = arrivals_.empty() && cancels_.empty();
      arrivals_.emplace_back(std::move(exchange), *address);
    }
    if (first) ring();
    return ticket;
  }

  void cancel(Ticket ticket) {
    {
      const std::lock_guard lock{mutex_};
      cancels_.push_back(ticket);
    }
    ring();
  }

  Counters counters() const {
    Counters now;
    for (const auto member : kCounters) now.*member = std::atomic_ref(counters_.*member).load();
    return now;
  }

 private:
  void ring() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
  }

  void watch(int fd, Port* port) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = port;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      throw std::system_error(errno, std::system_category(), "radius client: epoll_ctl");
    }
  }

  static constexpr std::array kCounters{&Counters::requests,
                                        &Counters::sent,
                                        &Counters::retransmissions,
                                        &Counters::acks,
                                        &Counters::naks,
                                        &Counters::timeouts,
                                        &Counters::invalid_answers,
                                        &Counters::unexpected_answers,
                                        &Counters::refused_ports,
                                        &Counters::connections,
                                        &Counters::status_requests,
                                        &Counters::failed_connections};

  // Only the loop counts, so a load and a store will do; others read.
  void count(std::uint64_t Counters::* member) {
    std::atomic_ref counter{counters_.*member};
    counter.store(counter.load(std::memory_order_relaxed) + 1);
  }

  void run() {
    // A connection that the NAS has closed must not end the process.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    std::array<epoll_event, 256> events;
    while (!stopping_) {
      const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
      for (int i = 0; i < ready; ++i) {
        auto* port = static_cast<Port*>(events[i].data.ptr);
        if (port == nullptr) {
          take_arrivals();
        } else if (port->nas->transport == Transport::kRadsec) {
          advance(*port);
        } else {
          receive(*port);
        }
      }
      ring_alarms();
      flush();
      close_idle();
    }
    end_all();
  }

  int wait_ms() const {
    if (alarms_.empty()) return 60'000;
    const auto left = alarms_.begin()->first - Clock::now();
    if (left <= Clock::duration::zero()) return 0;
    return static_cast<int>(
        std::min<std::int64_t>(duration_cast<milliseconds>(left).count() + 1, 60'000));
  }

  void take_arrivals() {
    std::uint64_t rung = 0;
    [[maybe_unused]] const auto read = ::read(wake_.get(), &rung, sizeof rung);
    std::vector<std::pair<std::unique_ptr<Exchange>, Address>> arrivals;
    std::vector<Ticket> cancels;
    {
      const std::lock_guard lock{mutex_};
      arrivals.swap(arrivals_);
      cancels.swap(cancels_);
    }
    for (auto& [exchange, address] : arrivals) enqueue(std::move(exchange), address);
    for (const Ticket ticket : cancels) {
      const auto found = exchanges_.find(ticket);
      if (found != exchanges_.end()) give_up(*found->second, "cancelled");
    }
  }

  Nas& nas_at(const Address& address, const Request& request) {
    std::string key = address.key();
    if (request.transport == Transport::kRadsec) {
      key += fmt::format("|{}|{}|{}|{}", request.tls.ca, request.tls.certificate, request.tls.key,
                         request.tls.server_name);
    }
    auto& slot = nas_[key];
    if (!slot) {
      slot = std::make_unique<Nas>();
      slot->address = address;
      slot->key = std::move(key);
      slot->transport = request.transport;
      slot->tls = request.tls;
      slot->host = request.host;
      slot->tokens = settings_.burst;
      slot->refilled = Clock::now();
    }
    // The newest word on its limits counts; a burst is at most half a second's worth of its rate.
    slot->rate = request.rate > 0 ? request.rate : settings_.rate;
    slot->burst =
        request.rate > 0 ? std::clamp(request.rate / 2, 1.0, settings_.burst) : settings_.burst;
    slot->tokens = std::min(slot->tokens, slot->burst);
    slot->window = request.window > 0 ? request.window : settings_.window;
    return *slot;
  }

  void enqueue(std::unique_ptr<Exchange> owned, const Address& address) {
    Exchange& exchange = *owned;
    Nas& nas = nas_at(address, exchange.request);
    exchange.nas = &nas;
    exchanges_.emplace(exchange.ticket, std::move(owned));
    count(&Counters::requests);
    nas.touched = Clock::now();
    if (nas.queued == 0 && nas.outstanding == 0 && exchange.request.jitter.count() > 0) {
      const auto longest = exchange.request.jitter.count();
      nas.not_before =
          nas.touched + milliseconds{static_cast<std::int64_t>(random_()) % (longest + 1)};
    }
    ++nas.queued;
    if (ending_) return give_up(exchange, "the client was shut down");
    if (nas.queued > settings_.max_queued_per_nas) {
      return give_up(exchange, "too many requests wait for this NAS");
    }
    if (exchange.request.deadline != Clock::time_point::max()) {
      set_alarm(exchange, exchange.request.deadline);
    }
    nas.queue.push_back(&exchange);
    dispatch(nas);
  }

  // Sends what window, rate and sessions allow.
  void dispatch(Nas& nas) {
    if (nas.dispatching) return;  // one that failed at once came back here
    nas.dispatching = true;
    send_what_may_go(nas);
    nas.dispatching = false;
  }

  void send_what_may_go(Nas& nas) {
    if (const auto now = Clock::now(); nas.not_before > now) {
      if (!nas.alarm) nas.alarm = alarms_.emplace(nas.not_before, Alarm{.nas = &nas});
      return;
    }
    while (!nas.queue.empty() && nas.outstanding < nas.window) {
      Exchange& exchange = *nas.queue.front();
      if (!exchange.request.session.empty() && !exchange.holds_session) {
        const auto [busy, free] = nas.sessions.try_emplace(exchange.request.session);
        if (!free) {
          busy->second.push_back(&exchange);
          nas.queue.pop_front();
          continue;
        }
        exchange.holds_session = true;
      }
      if (!take_token(nas)) return;
      nas.queue.pop_front();
      --nas.queued;
      --waiting_;
      start(exchange);
    }
  }

  bool take_token(Nas& nas) {
    const auto now = Clock::now();
    const double gained = std::chrono::duration<double>(now - nas.refilled).count() * nas.rate;
    nas.tokens = std::min(nas.burst, nas.tokens + gained);
    nas.refilled = now;
    if (nas.tokens >= 1) {
      nas.tokens -= 1;
      return true;
    }
    if (!nas.alarm) {
      const std::chrono::duration<double> missing{(1 - nas.tokens) / nas.rate};
      nas.alarm =
          alarms_.emplace(now + duration_cast<Clock::duration>(missing), Alarm{.nas = &nas});
    }
    return false;
  }

  // An identifier that has rested, in round robin; null port: none could be had.
  std::pair<Port*, std::uint8_t> claim_identifier(Nas& nas) {
    const auto now = Clock::now();
    const bool tls = nas.transport == Transport::kRadsec;
    const std::size_t most = tls ? 1 : settings_.max_ports_per_nas;
    const auto rested = [&](const Port& port, std::size_t id) {
      return tls || port.used[id] == Clock::time_point{} ||
             now - port.used[id] >= settings_.identifier_rest;
    };
    const std::size_t total = nas.ports.size() * kIdentifiers;
    // At most `window` are taken, so a free one is near.
    for (std::size_t step = 0; step < total; ++step) {
      const std::size_t at = (nas.next + step) % total;
      Port& port = *nas.ports[at / kIdentifiers];
      const std::size_t id = at % kIdentifiers;
      if (port.slots[id] != nullptr || (tls && id == kStatusIdentifier)) continue;
      if (!rested(port, id) && nas.ports.size() < most) break;
      nas.next = (at + 1) % total;
      return {&port, static_cast<std::uint8_t>(id)};
    }
    if (nas.ports.size() >= most) return {nullptr, 0};
    Port* opened = open_port(nas);
    if (opened == nullptr) return {nullptr, 0};
    const std::uint8_t first = tls ? kStatusIdentifier + 1 : 0;
    nas.next = (nas.ports.size() - 1) * kIdentifiers + first + 1;
    return {opened, first};
  }

  Port* open_port(Nas& nas) {
    if (nas.transport == Transport::kRadsec) {
      auto port = std::make_unique<Port>();
      port->nas = &nas;
      return nas.ports.emplace_back(std::move(port)).get();
    }
    Descriptor socket{
        ::socket(nas.address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    // Connected: the kernel drops strangers' datagrams, and a refused port shows as ECONNREFUSED.
    if (socket.get() < 0 ||
        ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&nas.address.storage),
                  nas.address.size) != 0) {
      return nullptr;
    }
    setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof kReceiveBuffer);
    auto port = std::make_unique<Port>();
    port->socket = std::move(socket);
    port->nas = &nas;
    watch(port->socket.get(), port.get());
    return nas.ports.emplace_back(std::move(port)).get();
  }

  void start(Exchange& exchange) {
    Nas& nas = *exchange.nas;
    const auto now = Clock::now();
    ++nas.outstanding;
    exchange.starting = true;
    if (now >= exchange.request.deadline) return give_up(exchange, "deadline passed");
    // The time of the first sending; a repetition is the same packet to the last octet.
    exchange.request.attributes.push_back(
        {0, attribute::kEventTimestamp,
         integer_value(static_cast<std::uint32_t>(std::time(nullptr)))});
    const Request& request = exchange.request;
    const bool follows = !request.next_secret.empty() && nas.trusted_secret == request.next_secret;
    if (const std::string wrong = sign(exchange, follows); !wrong.empty()) {
      return give_up(exchange, wrong);
    }
    exchange.ends = std::min(exchange.request.deadline, now + settings_.max_duration);
    transmit(exchange);
  }

  // Gives the exchange a packet of its own, keyed by its secret or by the one that follows. What is
  // wrong, or nothing.
  std::string sign(Exchange& exchange, bool with_next) {
    const Request& request = exchange.request;
    const auto [port, identifier] = claim_identifier(*exchange.nas);
    if (port == nullptr) return fmt::format("no socket to the NAS: {}", std::strerror(errno));
    const std::string& secret = with_next ? request.next_secret : request.secret;
    const std::string& other = with_next ? request.secret : request.next_secret;
    auto octets = signer_.encode_request(request.code, identifier, request.attributes, secret);
    if (!octets) return octets.error().message;
    exchange.forms[exchange.form_count++] = {.port = port,
                                             .octets = std::move(*octets),
                                             .secret = &secret,
                                             .other_secret = other.empty() ? nullptr : &other};
    port->slots[identifier] = &exchange;
    port->used[identifier] = Clock::now();
    return {};
  }

  // The packet leaves with the next flush, together with others to that NAS.
  void post(Exchange& exchange) {
    Port& port = *exchange.form().port;
    if (exchange.in_outbox) return;
    exchange.in_outbox = true;
    if (port.outbox.empty()) to_flush_.push_back(&port);
    port.outbox.push_back(&exchange);
  }

  void transmit(Exchange& exchange) {
    post(exchange);
    if (exchange.nas->transport == Transport::kRadsec) {
      // TCP repeats; only a new connection makes us send again (RFC 6614 2.6, RFC 5080 2.2.1).
      return set_alarm(exchange, exchange.ends);
    }
    ++exchange.sendings;
    count(&Counters::sent);
    if (exchange.sendings > 1) count(&Counters::retransmissions);
    const auto spread = [&](double of, milliseconds wait) {
      const double factor = std::uniform_real_distribution<double>{-0.1, 0.1}(random_);
      return milliseconds{
          static_cast<std::int64_t>(static_cast<double>(wait.count()) * (of + factor))};
    };
    if (exchange.sendings == 1) {
      exchange.wait = spread(1, settings_.initial_wait);
    } else {
      exchange.wait = spread(2, exchange.wait);
      if (exchange.wait > settings_.max_wait) exchange.wait = spread(1, settings_.max_wait);
    }
    set_alarm(exchange, std::min(Clock::now() + exchange.wait, exchange.ends));
  }

  void flush() {
    // A NAS that cannot be reached may end exchanges, whose successors come in here again.
    while (!to_flush_.empty()) {
      std::vector<Port*> ports;
      ports.swap(to_flush_);
      for (Port* port : ports) {
        if (port->nas->transport == Transport::kRadsec) {
          hand_out(*port);
        } else {
          send_out(*port);
        }
      }
    }
  }

  void send_out(Port& port) {
    constexpr std::size_t kBatch = 64;
    std::array<iovec, kBatch> parts;
    std::array<mmsghdr, kBatch> messages;
    std::size_t done = 0;
    while (done < port.outbox.size()) {
      const std::size_t size = std::min(kBatch, port.outbox.size() - done);
      for (std::size_t i = 0; i < size; ++i) {
        auto& octets = port.outbox[done + i]->form().octets;
        parts[i] = {.iov_base = octets.data(), .iov_len = octets.size()};
        messages[i].msg_hdr = {};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
      }
      const auto batch = static_cast<unsigned>(size);
      int sent = ::sendmmsg(port.socket.get(), messages.data(), batch, MSG_NOSIGNAL);
      if (sent < 0 && errno == ECONNREFUSED) {
        // That was the error of an earlier datagram: this one has not been tried yet.
        port.outbox[done]->unreachable = true;
        sent = ::sendmmsg(port.socket.get(), messages.data(), batch, MSG_NOSIGNAL);
      }
      // A datagram that the kernel would not take (buffer full, no route yet) is as good as lost:
      // the next sending tries again.
      done += sent > 0 ? static_cast<std::size_t>(sent) : 1;
    }
    for (Exchange* exchange : port.outbox) exchange->in_outbox = false;
    port.outbox.clear();
  }

  // --- RadSec
  // -------------------------------------------------------------------------------------

  void hand_out(Port& port) {
    Nas& nas = *port.nas;
    if (port.stream == nullptr && !connect(port)) return;
    if (!port.stream->ready()) return;
    for (Exchange* exchange : port.outbox) {
      exchange->in_outbox = false;
      exchange->handed_out = true;
      ++exchange->sendings;
      count(&Counters::sent);
      if (exchange->sendings > 1) count(&Counters::retransmissions);
      port.stream->write(exchange->form().octets);
    }
    port.outbox.clear();
    nas.touched = Clock::now();
    if (!port.watchdog) heard(port);
    advance(port);
  }

  // --- The watchdog of a connection (RFC 3539 3.4). It also moves on a server that has the request
  // in its buffer and waits for more to come, which FreeRADIUS does where the request arrives
  // together with the end of the handshake.

  void heard(Port& port) {
    port.status.clear();
    watch_over(port);
  }

  void watch_over(Port& port) {
    if (port.watchdog) alarms_.erase(*port.watchdog);
    port.watchdog = alarms_.emplace(Clock::now() + settings_.watchdog, Alarm{.silent = &port});
  }

  void forget_watchdog(Port& port) {
    port.status.clear();
    if (port.watchdog) alarms_.erase(*std::exchange(port.watchdog, std::nullopt));
  }

  void ask_whether_there(Port& port) {
    port.watchdog.reset();
    if (port.stream != nullptr && !port.stream->ready())
      return lost(port, "its TLS handshake does not end");
    const auto waits = [](const Exchange* exchange) {
      return exchange != nullptr && exchange->handed_out;
    };
    const auto waiting = std::ranges::find_if(port.slots, waits);
    if (port.stream == nullptr || waiting == port.slots.end()) return forget_watchdog(port);
    if (!port.status.empty()) return lost(port, "no answer to a Status-Server");
    port.status = signer_.encode_status(kStatusIdentifier, (*waiting)->request.secret);
    port.status_secret = (*waiting)->request.secret;
    count(&Counters::status_requests);
    port.stream->write(port.status);
    watch_over(port);
    advance(port);
  }

  // Whether they are a word of the NAS on our Status-Server.
  bool answers_status(Port& port, std::span<const std::uint8_t> octets) {
    return !port.status.empty() && octets[1] == kStatusIdentifier &&
           signer_.verify_answer(octets, port.status, port.status_secret) == Signer::Verdict::kGood;
  }

  bool connect(Port& port) {
    Nas& nas = *port.nas;
    const auto now = Clock::now();
    if (now < nas.reconnect_at) {
      if (!nas.alarm) nas.alarm = alarms_.emplace(nas.reconnect_at, Alarm{.nas = &nas});
      return false;
    }
    auto stream = TlsStream::open(reinterpret_cast<const sockaddr*>(&nas.address.storage),
                                  nas.address.size, nas.tls, nas.host);
    if (!stream) {
      lost(port, stream.error());
      return false;
    }
    port.stream = std::move(*stream);
    port.watched = EPOLLIN | EPOLLOUT;
    epoll_event event{};
    event.events = port.watched;
    event.data.ptr = &port;
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, port.stream->fd(), &event);
    watch_over(port);
    return true;
  }

  void advance(Port& port) {
    if (port.stream == nullptr) return;
    const bool was_ready = port.stream->ready();
    port.stream->advance([&](std::span<const std::uint8_t> octets) { answer(port, octets); });
    if (!port.stream->failure().empty()) return lost(port, port.stream->failure());
    if (!was_ready && port.stream->ready()) {
      count(&Counters::connections);
      heard(port);
      port.nas->reconnect_wait = milliseconds{0};
      port.nas->trouble.clear();
      // What an earlier connection took, and what came meanwhile.
      for (Exchange* exchange : port.slots) {
        if (exchange != nullptr && !exchange->handed_out) post(*exchange);
      }
      to_flush_.push_back(&port);
    }
    const std::uint32_t wanted =
        EPOLLIN | (port.stream->wants_to_write() ? std::uint32_t{EPOLLOUT} : 0U);
    if (wanted == port.watched) return;
    port.watched = wanted;
    epoll_event event{};
    event.events = wanted;
    event.data.ptr = &port;
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, port.stream->fd(), &event);
  }

  // The connection is gone or was never made: what is outstanding goes out again with the next.
  void lost(Port& port, const std::string& why) {
    Nas& nas = *port.nas;
    count(&Counters::failed_connections);
    nas.trouble = why;
    port.stream.reset();  // closing the descriptor takes it out of epoll
    forget_watchdog(port);
    for (Exchange* exchange : port.slots) {
      if (exchange == nullptr) continue;
      exchange->handed_out = false;
      post(*exchange);
    }
    nas.reconnect_wait = nas.reconnect_wait.count() == 0
                             ? settings_.reconnect_wait
                             : std::min(nas.reconnect_wait * 2, settings_.reconnect_max_wait);
    const double part = std::uniform_real_distribution<double>{0.5, 1.0}(random_);
    nas.reconnect_at = Clock::now() + milliseconds{static_cast<std::int64_t>(
                                          static_cast<double>(nas.reconnect_wait.count()) * part)};
    if (!nas.alarm && nas.outstanding > 0) {
      nas.alarm = alarms_.emplace(nas.reconnect_at, Alarm{.nas = &nas});
    }
  }

  void set_alarm(Exchange& exchange, Clock::time_point at) {
    clear_alarm(exchange);
    exchange.alarm = alarms_.emplace(at, Alarm{.exchange = &exchange});
  }
  void clear_alarm(Exchange& exchange) {
    if (exchange.alarm) alarms_.erase(*std::exchange(exchange.alarm, std::nullopt));
  }

  void ring_alarms() {
    const auto now = Clock::now();
    while (!alarms_.empty() && alarms_.begin()->first <= now) {
      const Alarm alarm = alarms_.begin()->second;
      alarms_.erase(alarms_.begin());
      if (alarm.silent != nullptr) {
        ask_whether_there(*alarm.silent);
        continue;
      }
      if (alarm.nas != nullptr) {
        alarm.nas->alarm.reset();
        reconnect(*alarm.nas);
        dispatch(*alarm.nas);
        continue;
      }
      Exchange& exchange = *alarm.exchange;
      exchange.alarm.reset();
      if (exchange.form_count == 0) {
        give_up(exchange, "deadline passed before it was sent");
      } else if (now >= exchange.ends || exchange.sendings >= settings_.max_sendings) {
        give_up(exchange, silence(exchange));
      } else {
        change_secret(exchange);
        transmit(exchange);
      }
    }
  }

  static std::string silence(const Exchange& exchange) {
    if (exchange.nas->transport == Transport::kUdp) {
      return fmt::format("no answer to {} sendings", exchange.sendings);
    }
    const std::string& trouble = exchange.nas->trouble;
    if (trouble.empty()) return "no answer";
    return fmt::format("no TLS connection to the NAS: {}", trouble);
  }

  // Half of the sendings met silence: perhaps the NAS has the secret that follows by now.
  void change_secret(Exchange& exchange) {
    if (exchange.form_count != 1 || exchange.request.next_secret.empty() ||
        exchange.sendings < std::max(1, settings_.max_sendings / 2)) {
      return;
    }
    // Nothing is lost where there is no identifier to be had: the first packet goes on.
    static_cast<void>(sign(exchange, exchange.form().secret == &exchange.request.secret));
  }

  void reconnect(Nas& nas) {
    if (nas.transport != Transport::kRadsec || nas.outstanding == 0) return;
    for (const auto& port : nas.ports) {
      if (port->stream == nullptr && connect(*port)) advance(*port);
    }
  }

  void receive(Port& port) {
    // No more than a window at a time, so that one NAS cannot keep the others waiting.
    for (std::size_t i = 0; i < kIdentifiers / Receiver::kBatch; ++i) {
      const int size = receiver_->receive(port.socket.get());
      if (size < 0) {
        if (errno != ECONNREFUSED) return;
        count(&Counters::refused_ports);
        for (Exchange* exchange : port.slots) {
          if (exchange != nullptr) exchange->unreachable = true;
        }
        continue;
      }
      for (int each = 0; each < size; ++each) answer(port, receiver_->datagram(each));
      if (size < static_cast<int>(Receiver::kBatch)) return;
    }
  }

  // Whether they answer one of the exchange's packets; the NAS's secret is then known.
  bool verified(Port& port, Exchange& exchange, std::span<const std::uint8_t> octets) {
    for (std::size_t i = 0; i < exchange.form_count; ++i) {
      const Form& form = exchange.forms[i];
      if (form.port != &port || form.octets[1] != octets[1]) continue;
      for (const std::string* secret : {form.secret, form.other_secret}) {
        if (secret == nullptr) continue;
        const auto verdict = signer_.verify_answer(octets, form.octets, *secret,
                                                   exchange.request.demand_message_authenticator);
        if (verdict != Signer::Verdict::kGood) continue;
        if (!exchange.request.next_secret.empty()) exchange.nas->trusted_secret = *secret;
        return true;
      }
    }
    return false;
  }

  void answer(Port& port, std::span<const std::uint8_t> octets) {
    if (octets.size() >= kHeaderSize && answers_status(port, octets)) return heard(port);
    Exchange* exchange = octets.size() < kHeaderSize ? nullptr : port.slots[octets[1]];
    if (exchange == nullptr) return count(&Counters::unexpected_answers);
    if (!verified(port, *exchange, octets)) return count(&Counters::invalid_answers);
    if (port.watchdog) heard(port);
    const auto packet = decode(octets);  // it was found well-formed
    if (!timely(*packet)) return count(&Counters::invalid_answers);
    const bool ack = packet->code == Code::kCoaAck || packet->code == Code::kDisconnectAck;
    Outcome outcome{.kind = ack ? Outcome::Kind::kAck : Outcome::Kind::kNak,
                    .error_cause = packet->integer(attribute::kErrorCause)};
    if (const Attribute* message = packet->find(attribute::kReplyMessage)) {
      outcome.detail = message->value;
      std::ranges::replace_if(
          outcome.detail, [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
    }
    count(ack ? &Counters::acks : &Counters::naks);
    finish(*exchange, std::move(outcome));
  }

  bool timely(const Packet& packet) const {
    const auto stamp = packet.integer(attribute::kEventTimestamp);
    if (!stamp || settings_.timestamp_window.count() == 0) return true;
    const auto apart = std::int64_t{*stamp} - static_cast<std::int64_t>(std::time(nullptr));
    return std::abs(apart) <= settings_.timestamp_window.count();
  }

  void give_up(Exchange& exchange, std::string why) {
    Outcome outcome{.kind = Outcome::Kind::kLocalError, .detail = std::move(why)};
    if (exchange.sendings > 0) {
      outcome.kind = Outcome::Kind::kTimeout;
      count(&Counters::timeouts);
    }
    if (exchange.unreachable) outcome.detail += "; the NAS's host refused the port";
    finish(exchange, std::move(outcome));
  }

  // Takes the exchange out of every list, answers its caller, lets the next one go.
  void finish(Exchange& exchange, Outcome outcome) {
    Nas& nas = *exchange.nas;
    clear_alarm(exchange);
    nas.touched = Clock::now();
    for (std::size_t i = 0; i < exchange.form_count; ++i) {
      Form& form = exchange.forms[i];
      form.port->slots[form.octets[1]] = nullptr;
      form.port->used[form.octets[1]] = nas.touched;
      if (exchange.in_outbox) std::erase(form.port->outbox, &exchange);
    }
    if (exchange.form_count > 0) {
      --nas.outstanding;
    } else {
      remove_queued(exchange);
    }
    if (exchange.holds_session) {
      const auto held = nas.sessions.find(exchange.request.session);
      std::vector<Exchange*> waiting = std::move(held->second);
      if (waiting.empty()) {
        nas.sessions.erase(held);
      } else {
        Exchange* next = waiting.front();
        waiting.erase(waiting.begin());
        held->second = std::move(waiting);
        next->holds_session = true;
        nas.queue.push_front(next);
      }
    }
    outcome.sendings = exchange.sendings;
    outcome.unreachable = exchange.unreachable;
    const auto node = exchanges_.extract(exchange.ticket);
    node.mapped()->done(outcome);
    if (!ending_) dispatch(nas);
  }

  void remove_queued(Exchange& exchange) {
    Nas& nas = *exchange.nas;
    if (exchange.starting) {
      --nas.outstanding;
      return;
    }
    --nas.queued;
    --waiting_;
    if (std::erase(nas.queue, &exchange) > 0) return;
    const auto behind = nas.sessions.find(exchange.request.session);
    if (behind != nas.sessions.end()) std::erase(behind->second, &exchange);
  }

  void close_idle() {
    const auto now = Clock::now();
    if (now < next_sweep_) return;
    next_sweep_ = now + std::chrono::minutes{1};
    std::erase_if(nas_, [&](const auto& entry) {
      const Nas& nas = *entry.second;
      return nas.outstanding == 0 && nas.queued == 0 && !nas.alarm && !watched(nas) &&
             now - nas.touched > std::max(settings_.idle_close, settings_.identifier_rest);
    });
  }

  static bool watched(const Nas& nas) {
    return std::ranges::any_of(nas.ports,
                               [](const auto& port) { return port->watchdog.has_value(); });
  }

  void end_all() {
    ending_ = true;
    take_arrivals();
    while (!exchanges_.empty()) give_up(*exchanges_.begin()->second, "the client was shut down");
  }

  const ClientSettings settings_;
  Descriptor epoll_;
  Descriptor wake_;
  std::atomic<bool> stopping_ = false;
  std::atomic<Ticket> last_ticket_ = 0;
  std::atomic<std::size_t> waiting_ = 0;

  std::mutex mutex_;
  std::vector<std::pair<std::unique_ptr<Exchange>, Address>> arrivals_;
  std::vector<Ticket> cancels_;

  mutable Counters counters_;

  // The loop's own.
  bool ending_ = false;
  Signer signer_;
  std::unique_ptr<Receiver> receiver_ = std::make_unique<Receiver>();
  std::vector<Port*> to_flush_;  // with something in the outbox
  std::minstd_rand random_{std::random_device{}()};
  Alarms alarms_;
  Clock::time_point next_sweep_ = Clock::now() + std::chrono::minutes{1};
  std::unordered_map<Ticket, std::unique_ptr<Exchange>> exchanges_;
  std::unordered_map<std::string, std::unique_ptr<Nas>> nas_;
  std::thread thread_;
};

Client::Client(ClientSettings settings) : loop_(std::make_unique<Loop>(settings)) {}
Client::~Client() = default;

Client::Ticket Client::submit(Request request, Callback done) {
  return loop_->submit(std::move(request), std::move(done));
}
void Client::cancel(Ticket ticket) { loop_->cancel(ticket); }

Outcome Client::send(Request request) {
  std::promise<Outcome> promise;
  auto answer = promise.get_future();
  submit(std::move(request), [&](const Outcome& outcome) { promise.set_value(outcome); });
  return answer.get();
}

Counters Client::counters() const { return loop_->counters(); }

}  // namespace addrflow::radius

#include "addrflow/radius/client.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
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

namespace addrflow::radius {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

constexpr std::size_t kIdentifiers = 256;
constexpr int kReceiveBuffer = 1 << 20;  // a burst of answers must not be lost on our side

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  // What two requests to the same NAS have in common.
  std::string key() const { return {reinterpret_cast<const char*>(&storage), size}; }
};

std::expected<Address, std::string> resolve(const std::string& host, std::uint16_t port) {
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

// Something to do at a time: look at an exchange, or at a NAS whose rate was used up.
struct Alarm {
  Exchange* exchange = nullptr;
  Nas* nas = nullptr;
};
using Alarms = std::multimap<Clock::time_point, Alarm>;

// A request on its way: queued, then outstanding in a slot of a port.
struct Exchange {
  Client::Ticket ticket = 0;
  Request request;
  Client::Callback done;
  Nas* nas = nullptr;
  bool holds_session = false;
  bool starting = false;  // taken from the queue

  Port* port = nullptr;  // null: queued
  std::vector<std::uint8_t> octets;
  Clock::time_point ends{};  // no more waiting after this
  milliseconds wait{};
  int sendings = 0;
  bool unreachable = false;
  std::optional<Alarms::iterator> alarm;
};

struct Port {
  Descriptor socket;
  Nas* nas = nullptr;
  std::array<Exchange*, kIdentifiers> slots{};
  std::array<Clock::time_point, kIdentifiers> used{};  // epoch: never
};

struct Nas {
  Address address;
  std::string key;
  std::vector<std::unique_ptr<Port>> ports;
  std::size_t next = 0;  // round robin over (port, identifier)
  std::deque<Exchange*> queue;
  // Sessions with a request outstanding, and the requests that wait for it.
  std::unordered_map<std::string, std::deque<Exchange*>> sessions;
  std::size_t outstanding = 0;
  std::size_t queued = 0;  // in `queue` and behind sessions
  bool dispatching = false;
  double tokens = 0;
  Clock::time_point refilled{};
  Clock::time_point touched{};
  std::optional<Alarms::iterator> alarm;
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
    const std::lock_guard lock{counters_mutex_};
    return counters_;
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

  template <class F>
  void count(F change) {
    const std::lock_guard lock{counters_mutex_};
    change(counters_);
  }

  void run() {
    std::array<epoll_event, 64> events;
    while (!stopping_) {
      const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
      for (int i = 0; i < ready; ++i) {
        if (auto* port = static_cast<Port*>(events[i].data.ptr); port != nullptr) receive(*port);
      }
      take_arrivals();
      ring_alarms();
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

  Nas& nas_at(const Address& address) {
    std::string key = address.key();
    auto& slot = nas_[key];
    if (!slot) {
      slot = std::make_unique<Nas>();
      slot->address = address;
      slot->key = std::move(key);
      slot->tokens = settings_.burst;
      slot->refilled = Clock::now();
    }
    return *slot;
  }

  void enqueue(std::unique_ptr<Exchange> owned, const Address& address) {
    Exchange& exchange = *owned;
    Nas& nas = nas_at(address);
    exchange.nas = &nas;
    exchanges_.emplace(exchange.ticket, std::move(owned));
    count([](Counters& c) { ++c.requests; });
    nas.touched = Clock::now();
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
    while (!nas.queue.empty() && nas.outstanding < settings_.window) {
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
    const double gained =
        std::chrono::duration<double>(now - nas.refilled).count() * settings_.rate;
    nas.tokens = std::min(settings_.burst, nas.tokens + gained);
    nas.refilled = now;
    if (nas.tokens >= 1) {
      nas.tokens -= 1;
      return true;
    }
    if (!nas.alarm) {
      const std::chrono::duration<double> missing{(1 - nas.tokens) / settings_.rate};
      nas.alarm =
          alarms_.emplace(now + duration_cast<Clock::duration>(missing), Alarm{.nas = &nas});
    }
    return false;
  }

  // An identifier that has rested, in round robin; null port: none could be had.
  std::pair<Port*, std::uint8_t> claim_identifier(Nas& nas) {
    const auto now = Clock::now();
    const auto rested = [&](const Port& port, std::size_t id) {
      return port.used[id] == Clock::time_point{} ||
             now - port.used[id] >= settings_.identifier_rest;
    };
    const std::size_t total = nas.ports.size() * kIdentifiers;
    // At most `window` are taken, so a free one is near.
    for (std::size_t step = 0; step < total; ++step) {
      const std::size_t at = (nas.next + step) % total;
      Port& port = *nas.ports[at / kIdentifiers];
      const std::size_t id = at % kIdentifiers;
      if (port.slots[id] != nullptr) continue;
      if (!rested(port, id) && nas.ports.size() < settings_.max_ports_per_nas) break;
      nas.next = (at + 1) % total;
      return {&port, static_cast<std::uint8_t>(id)};
    }
    Port* opened = open_port(nas);
    if (opened == nullptr) return {nullptr, 0};
    nas.next = (nas.ports.size() - 1) * kIdentifiers + 1;
    if (nas.next >= nas.ports.size() * kIdentifiers) nas.next = 0;
    return {opened, 0};
  }

  Port* open_port(Nas& nas) {
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
    const auto [port, identifier] = claim_identifier(nas);
    if (port == nullptr) {
      return give_up(exchange, fmt::format("no socket to the NAS: {}", std::strerror(errno)));
    }
    // The time of the first sending; a repetition is the same packet to the last octet.
    std::vector<Attribute> attributes = std::move(exchange.request.attributes);
    attributes.push_back({0, attribute::kEventTimestamp,
                          integer_value(static_cast<std::uint32_t>(std::time(nullptr)))});
    auto octets = signer_.encode_request(exchange.request.code, identifier, attributes,
                                         exchange.request.secret);
    if (!octets) return give_up(exchange, octets.error().message);
    exchange.octets = std::move(*octets);
    exchange.port = port;
    port->slots[identifier] = &exchange;
    port->used[identifier] = now;
    exchange.ends = std::min(exchange.request.deadline, now + settings_.max_duration);
    transmit(exchange);
  }

  void transmit(Exchange& exchange) {
    const int fd = exchange.port->socket.get();
    ssize_t sent = -1;
    // The first try may only fetch the error of an earlier datagram.
    for (int i = 0; i < 2 && sent < 0; ++i) {
      sent = ::send(fd, exchange.octets.data(), exchange.octets.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != ECONNREFUSED) break;
      if (sent < 0) exchange.unreachable = true;
    }
    // A datagram that the kernel would not take (buffer full, no route yet) is as good as lost: the
    // next sending tries again.
    ++exchange.sendings;
    count([&](Counters& c) {
      ++c.sent;
      if (exchange.sendings > 1) ++c.retransmissions;
    });
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
      if (alarm.nas != nullptr) {
        alarm.nas->alarm.reset();
        dispatch(*alarm.nas);
        continue;
      }
      Exchange& exchange = *alarm.exchange;
      exchange.alarm.reset();
      if (exchange.port == nullptr) {
        give_up(exchange, "deadline passed before it was sent");
      } else if (now >= exchange.ends || exchange.sendings >= settings_.max_sendings) {
        give_up(exchange, fmt::format("no answer to {} sendings", exchange.sendings));
      } else {
        transmit(exchange);
      }
    }
  }

  void receive(Port& port) {
    std::array<std::uint8_t, kMaxPacketSize + 1> buffer;
    // No more than a window at a time, so that one NAS cannot keep the others waiting.
    for (std::size_t i = 0; i < kIdentifiers; ++i) {
      const ssize_t size = ::recv(port.socket.get(), buffer.data(), buffer.size(), 0);
      if (size < 0) {
        if (errno != ECONNREFUSED) return;
        count([](Counters& c) { ++c.refused_ports; });
        for (Exchange* exchange : port.slots) {
          if (exchange != nullptr) exchange->unreachable = true;
        }
        continue;
      }
      answer(port, {buffer.data(), static_cast<std::size_t>(size)});
    }
  }

  void answer(Port& port, std::span<const std::uint8_t> octets) {
    Exchange* exchange = octets.size() < kHeaderSize ? nullptr : port.slots[octets[1]];
    if (exchange == nullptr) return count([](Counters& c) { ++c.unexpected_answers; });
    const auto verdict = signer_.verify_answer(octets, exchange->octets, exchange->request.secret,
                                               exchange->request.demand_message_authenticator);
    if (verdict != Signer::Verdict::kGood) {
      return count([](Counters& c) { ++c.invalid_answers; });
    }
    const auto packet = decode(octets);  // it was found well-formed
    if (!timely(*packet)) return count([](Counters& c) { ++c.invalid_answers; });
    const bool ack = packet->code == Code::kCoaAck || packet->code == Code::kDisconnectAck;
    Outcome outcome{.kind = ack ? Outcome::Kind::kAck : Outcome::Kind::kNak,
                    .error_cause = packet->integer(attribute::kErrorCause)};
    if (const Attribute* message = packet->find(attribute::kReplyMessage)) {
      outcome.detail = message->value;
      std::ranges::replace_if(
          outcome.detail, [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
    }
    count([&](Counters& c) { ++(ack ? c.acks : c.naks); });
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
      count([](Counters& c) { ++c.timeouts; });
    }
    if (exchange.unreachable) outcome.detail += "; the NAS's host refused the port";
    finish(exchange, std::move(outcome));
  }

  // Takes the exchange out of every list, answers its caller, lets the next one go.
  void finish(Exchange& exchange, Outcome outcome) {
    Nas& nas = *exchange.nas;
    clear_alarm(exchange);
    nas.touched = Clock::now();
    if (exchange.port != nullptr) {
      exchange.port->slots[exchange.octets[1]] = nullptr;
      exchange.port->used[exchange.octets[1]] = nas.touched;
      --nas.outstanding;
    } else {
      remove_queued(exchange);
    }
    if (exchange.holds_session) {
      const auto held = nas.sessions.find(exchange.request.session);
      std::deque<Exchange*> waiting = std::move(held->second);
      if (waiting.empty()) {
        nas.sessions.erase(held);
      } else {
        Exchange* next = waiting.front();
        waiting.pop_front();
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
      return nas.outstanding == 0 && nas.queued == 0 && !nas.alarm &&
             now - nas.touched > std::max(settings_.idle_close, settings_.identifier_rest);
    });
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

  mutable std::mutex counters_mutex_;
  Counters counters_;

  // The loop's own.
  bool ending_ = false;
  Signer signer_;
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

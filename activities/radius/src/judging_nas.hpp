// A NAS in a thread of the test's own that judges requests as a kind of device does by its
// documents (docs/decisions/0016 names them): which identifiers it takes, which attributes it
// knows, what it refuses and with which Error-Cause. It has one session, and its condition changes
// only by what the device would apply. Real packets on loopback.
#pragma once

#include <addrflow/radius/packet.hpp>

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "fake_nas.hpp"

namespace addrflow::radius {

class JudgingNas {
 public:
  enum class Kind { kRfc5176, kMikrotik, kCiscoIsg, kCiscoXr, kJuniper, kAccelPpp };

  struct Session {
    std::string id = "81a0";
    std::string username = "sub1";
    std::string framed_ip{"\xcb\x00\x71\x07", 4};  // 203.0.113.7
    std::string nas_ip{"\xc0\x00\x02\x01", 4};     // 192.0.2.1
  };
  struct Seen {
    bool online = true;
    std::string condition;           // filter or rate
    std::set<std::string> services;  // where the device switches services
    std::uint32_t last_cause = 0;    // 0: the last request was acknowledged
  };

  explicit JudgingNas(Kind kind) : kind_(kind), thread_([this] { run(); }) {}
  ~JudgingNas() {
    stopping_ = true;
    thread_.join();
  }

  std::uint16_t port() const { return nas_.port(); }
  Seen seen() {
    const std::lock_guard lock{mutex_};
    return seen_;
  }
  void preset(Seen seen) {
    const std::lock_guard lock{mutex_};
    seen_ = std::move(seen);
  }

 private:
  static constexpr std::uint32_t kAck = 0;
  static constexpr std::uint32_t kNakWithoutCause = ~0U;

  void run() {
    while (!stopping_) {
      const auto received = nas_.receive(std::chrono::milliseconds{20});
      if (received.octets.empty() || !signer_.verify_request(received.octets, "s")) continue;
      const auto packet = decode(received.octets);
      const bool coa = packet->code == Code::kCoaRequest;
      std::uint32_t verdict = kAck;
      {
        const std::lock_guard lock{mutex_};
        verdict = coa ? judge_coa(*packet) : judge_disconnect(*packet);
        seen_.last_cause = verdict;
      }
      std::vector<Attribute> attributes;
      if (verdict != kAck && verdict != kNakWithoutCause) {
        attributes.push_back({0, attribute::kErrorCause, integer_value(verdict)});
      }
      const bool ack = verdict == kAck;
      nas_.answer(received,
                  coa ? (ack ? Code::kCoaAck : Code::kCoaNak)
                      : (ack ? Code::kDisconnectAck : Code::kDisconnectNak),
                  attributes);
    }
  }

  static bool has(const Packet& packet, std::uint8_t type, std::uint32_t vendor = 0) {
    return packet.find(type, vendor) != nullptr;
  }
  // True when the attribute is absent or says the same.
  static bool fits(const Packet& packet, std::uint8_t type, const std::string& value) {
    const Attribute* found = packet.find(type);
    return found == nullptr || found->value == value;
  }
  static bool only(const Packet& packet, std::initializer_list<std::pair<int, int>> allowed) {
    return std::ranges::all_of(packet.attributes, [&](const Attribute& a) {
      return std::ranges::any_of(allowed, [&](auto& each) {
        return static_cast<int>(a.vendor) == each.first && a.type == each.second;
      });
    });
  }

  // 0, or the Error-Cause that the identifiers alone earn.
  std::uint32_t identify(const Packet& packet) {
    const bool by_id = has(packet, 44);
    const bool all_fit = fits(packet, 44, session_.id) && fits(packet, 1, session_.username) &&
                         fits(packet, 8, session_.framed_ip) && seen_.online;
    switch (kind_) {
      case Kind::kCiscoIsg:
      case Kind::kCiscoXr:
        // The guides: all that is given must match, else "invalid attribute value".
        if (!by_id && !has(packet, 1)) return 402;
        return all_fit && fits(packet, 4, session_.nas_ip) ? 0 : 407;
      case Kind::kJuniper:
        if (!by_id) return 402;
        return fits(packet, 44, session_.id) && seen_.online ? 0 : 503;
      case Kind::kAccelPpp:
        // NAS-Identifier and NAS-IP-Address are compared first.
        if (!fits(packet, 4, session_.nas_ip) || !fits(packet, 32, "bng")) return 403;
        return all_fit && (by_id || has(packet, 1)) ? 0 : 503;
      case Kind::kRfc5176:
      case Kind::kMikrotik: break;
    }
    if (!by_id && !has(packet, 1) && !has(packet, 8)) return 402;
    if (!fits(packet, 4, session_.nas_ip)) return 403;
    return all_fit ? 0 : 503;
  }

  std::uint32_t judge_disconnect(const Packet& packet) {
    if (kind_ == Kind::kRfc5176 &&
        !only(packet, {{0, 1}, {0, 4}, {0, 32}, {0, 44}, {0, 55}, {0, 80}, {0, 95}})) {
      return 401;  // RFC 5176 3.6: identifiers and nothing else; Framed-IP-Address is none here
    }
    if (kind_ == Kind::kJuniper && !only(packet, {{0, 1}, {0, 8}, {0, 44}, {0, 55}, {0, 80}})) {
      return 401;
    }
    if (const auto cause = identify(packet); cause != 0) return cause;
    seen_.online = false;
    return kAck;
  }

  std::uint32_t judge_coa(const Packet& packet) {
    if (!known(packet)) return 401;
    if (const auto cause = identify(packet); cause != 0) return cause;
    switch (kind_) {
      case Kind::kRfc5176: return set(packet, 11, 0);
      case Kind::kMikrotik: return rate(packet, packet.find(8, 14988));
      case Kind::kAccelPpp: return rate(packet, packet.find(11));
      case Kind::kJuniper: return junos(packet);
      case Kind::kCiscoXr: return xr(packet);
      case Kind::kCiscoIsg: break;
    }
    return 405;
  }

  // The attributes that a CoA may carry at all.
  bool known(const Packet& packet) const {
    switch (kind_) {
      case Kind::kRfc5176:
        return only(
            packet,
            {{0, 1}, {0, 4}, {0, 11}, {0, 27}, {0, 32}, {0, 44}, {0, 55}, {0, 80}, {0, 95}});
      case Kind::kMikrotik:
        // The manual's list; Address-List (19) and Delegated-IPv6-Pool (22) are not on it.
        return only(packet, {{0, 1},
                             {0, 4},
                             {0, 8},
                             {0, 44},
                             {0, 55},
                             {0, 80},
                             {0, 11},
                             {0, 27},
                             {0, 28},
                             {0, 62},
                             {14988, 1},
                             {14988, 2},
                             {14988, 3},
                             {14988, 8},
                             {14988, 11},
                             {14988, 12},
                             {14988, 13}});
      case Kind::kJuniper:
        return std::ranges::all_of(packet.attributes, [](const Attribute& a) {
          return a.vendor == 4874 ||
                 (a.vendor == 0 &&
                  (a.type == 1 || a.type == 8 || a.type == 44 || a.type == 55 || a.type == 80));
        });
      default: return true;  // what is not known is ignored
    }
  }

  std::uint32_t set(const Packet& packet, std::uint8_t type, std::uint32_t vendor) {
    const Attribute* found = packet.find(type, vendor);
    if (found == nullptr) return 402;
    seen_.condition = found->value;
    return kAck;
  }
  // "64k/64k" (rx/tx) of RouterOS, "20000/5000" of accel-ppp: two numbers.
  std::uint32_t rate(const Packet&, const Attribute* found) {
    const std::uint32_t refusal = kind_ == Kind::kAccelPpp ? kNakWithoutCause : 404;
    if (found == nullptr) return refusal;
    const auto slash = found->value.find('/');
    const auto number = [&](const std::string& text) {
      const bool unit = kind_ == Kind::kMikrotik && !text.empty() && !std::isdigit(text.back());
      const std::string digits = unit ? text.substr(0, text.size() - 1) : text;
      return !digits.empty() && std::ranges::all_of(digits, [](char c) { return std::isdigit(c); });
    };
    if (slash == std::string::npos || !number(found->value.substr(0, slash)) ||
        !number(found->value.substr(slash + 1))) {
      return refusal;
    }
    seen_.condition = found->value;
    return kAck;
  }
  std::uint32_t junos(const Packet& packet) {
    auto services = seen_.services;
    bool any = false;
    for (const Attribute& a : packet.attributes) {
      if (a.vendor != 4874) continue;
      if (a.type == 65) {
        // has_tag in the dictionary: without a tag the first letter of the name would be lost.
        if (a.value.empty() || a.value[0] < 1 || a.value[0] > 0x1f) return 404;
        services.insert(a.value.substr(1));
      } else if (a.type == 66) {
        services.erase(a.value);
      } else {
        return 401;
      }
      any = true;
    }
    if (!any) return 402;
    seen_.services = services;
    return kAck;
  }
  std::uint32_t xr(const Packet& packet) {
    auto services = seen_.services;
    bool command = false;
    for (const Attribute& a : packet.attributes) {
      if (a.vendor != 9 || a.type != 1) continue;
      if (a.value == "subscriber:command=account-update") {
        command = true;
      } else if (a.value.starts_with("subscriber:sa=")) {
        services.insert(a.value.substr(14));
      } else if (a.value.starts_with("subscriber:sd=")) {
        services.erase(a.value.substr(14));
      } else {
        return 404;
      }
    }
    if (!command) return 402;
    seen_.services = services;
    return kAck;
  }

  const Kind kind_;
  const Session session_;
  FakeNas nas_;
  Signer signer_;
  std::mutex mutex_;
  Seen seen_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace addrflow::radius

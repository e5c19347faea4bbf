// The answer to an activity that its function left open (`ActivityContext::complete_later`), given
// by whoever has the token or the ids: another thread, another process, a person.
#pragma once

#include <memory>
#include <string>
#include <tempora/client.hpp>
#include <tempora/failure.hpp>
#include <tempora/payload.hpp>

namespace tempora {

// What the server said to a heartbeat: several may hold.
struct HeartbeatReply {
  bool cancel_requested = false;
  bool paused = false;
  bool reset = false;
  bool should_stop() const { return cancel_requested || paused || reset; }
};

// The time-outs of the activity go on, and so does its heartbeat time-out. `kNotFound`: the attempt
// is over (timed out, answered before, its workflow closed).
class AsyncActivity {
 public:
  template <class... R>
    requires(sizeof...(R) <= 1)
  Outcome<void> complete(const R&... result) const {
    return complete_payloads(encode_all(result...));
  }
  Outcome<void> complete_payloads(Payloads result) const;
  // As if the function had thrown `error`: an `ApplicationError` keeps its type, details, delay.
  Outcome<void> fail(const std::exception& error) const;
  // Only after a request to cancel was heard of; else the server refuses it.
  template <class... D>
  Outcome<void> cancel(const D&... details) const {
    return cancel_payloads(encode_all(details...));
  }
  Outcome<void> cancel_payloads(Payloads details) const;
  // Each call is sent: unlike the activity's own, it is not throttled.
  template <class... D>
  Outcome<HeartbeatReply> heartbeat(const D&... details) const {
    return heartbeat_payloads(encode_all(details...));
  }
  Outcome<HeartbeatReply> heartbeat_payloads(Payloads details) const;

 private:
  friend class Client;
  std::shared_ptr<const detail::ClientCore> core_;
  std::string token_;  // or, if empty, the three ids
  std::string workflow_id_;
  std::string run_id_;
  std::string activity_id_;
};

}  // namespace tempora

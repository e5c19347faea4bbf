// The activity `radius_send`: tells the NAS of a service's session what the ledger has decided. The
// AAA rows were written before, so whatever is not reached here is right at its next login.
#pragma once

#include <addrflow/ports/effect_journal.hpp>
#include <addrflow/ports/network.hpp>
#include <addrflow/radius/client.hpp>
#include <addrflow/radius/dialect.hpp>
#include <addrflow/radius/policy.hpp>
#include <addrflow/radius/secret.hpp>

#include <atomic>
#include <chrono>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace addrflow::radius {

struct EffectsSettings {
  // An attempt sends nothing after this time, whatever the activity's own time-out is.
  std::chrono::milliseconds hard_deadline{30'000};
  // How often, while an answer is awaited, the fence is read again (a retransmission must not state
  // a condition that is no longer wanted) and the activity is reported alive.
  std::chrono::milliseconds fence_interval{1'000};
  // A login whose accounting Start has not arrived yet: a restriction that finds no session looks
  // once more after this time.
  std::chrono::milliseconds second_look{300};
  // The value of ${restricted}, and of ${plan} for a service without a plan.
  std::string restricted = "suspended";
  std::string default_plan = "default";
  // More variables for the dialects: for every plan, and by plan.
  Variables variables;
  std::map<std::string, Variables> plans;
  std::chrono::seconds session_timeout{0};  // the value of ${session_timeout}; 0: it has none
  // For tests of the fence: "radius.before_send:FILE" makes this process write FILE and stop itself
  // (SIGSTOP) once, right before a packet leaves. Empty: never.
  std::string test_pause;
};

// A request to that NAS as its record says: target, transport, limits, secrets. What it asks is the
// caller's. An error names the secret's reference, never the secret.
std::expected<Request, std::string> request_to(const ports::NasRecord& nas, SecretStore& secrets);

// Settings by environment for the composition root; only test_pause so far (ADDRFLOW_TEST_PAUSE).
std::string test_pause_of_environment();

// Thread-safe: one object serves all activity threads.
class RadiusEffects {
 public:
  struct Attempt {
    std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
    std::stop_token stop;               // the activity was cancelled: no more sendings
    std::function<void()> still_alive;  // heartbeat; called every fence_interval
  };

  // The references must outlive this object.
  RadiusEffects(Client& client, SecretStore& secrets, const Dialects& dialects,
                ports::EffectJournal& journal, ports::ServiceWaker& waker,
                ports::SessionDirectory& sessions, ports::NasDirectory& network,
                EffectsSettings settings = {});

  // Carries out one radius effect (coa, disconnect). Codes of the reply: ack, ack-hinted
  // (a NAS that a caller named, where accounting knows no session), nak-NNN, nak,
  // timeout, session-not-found (the NAS says so), no-session (accounting says so; nothing proves
  // more), not-sent, unknown_nas, unknown_dialect, bad_dialect, bad_secret, sessions_unreachable,
  // fence. Throws what the journal throws: then nothing was sent.
  v1::EffectReply send(const v1::EffectRequest& request, const Attempt& attempt);
  v1::EffectReply send(const v1::EffectRequest& request) { return send(request, Attempt{}); }

  // What `send` would do with an effect of this action and wish, for a plan: nothing leaves. A line
  // a packet with its NAS, then its attributes; `refused` says why there is none, where that is
  // known.
  struct PlannedPacket {
    std::string nas;                      // "bng1 (198.51.100.1:3799, mikrotik)"
    std::string code;                     // "CoA-Request", "Disconnect-Request"
    std::vector<std::string> attributes;  // "Framed-IP-Address = 203.0.113.7"
    std::string refused;
  };
  std::vector<PlannedPacket> look(const v1::ServiceRef& service, const std::string& action,
                                  const nlohmann::json& wish);

 private:
  struct Work;
  static void read_wish(Work& work);
  v1::EffectReply carry_out(Work& work);
  v1::EffectReply carry_out_on(Work& work, std::vector<ports::Session> sessions);
  struct OpenRows;
  bool is_live(const Work& work, const ports::Session& session) const;
  OpenRows open_rows(const Work& work);
  std::vector<ports::Session> sessions_of(const Work& work, std::chrono::milliseconds second_look);
  std::vector<ports::Session> spare(const Work& work, std::vector<ports::Session> sessions);
  std::vector<ports::Session> hinted_session(const Work& work) const;
  struct Prepared;
  Prepared prepare(const Work& work, const ports::Session& session, bool disconnect);
  Prepared prepare_for(const Work& work, const ports::Session& session, bool disconnect,
                       const ports::NasRecord& nas);
  static Prepared complete(Prepared prepared, const Work& work, const ports::Session& session,
                           std::vector<Attribute> attributes);
  void ask_others(Work& work, const std::vector<Prepared>& prepared,
                  std::vector<Outcome>& outcomes);
  std::vector<Outcome> exchange(Work& work, std::vector<Prepared>& prepared);
  void pause_for_test();

  Client& client_;
  SecretStore& secrets_;
  const Dialects& dialects_;
  ports::EffectJournal& journal_;
  ports::ServiceWaker& waker_;
  ports::SessionDirectory& sessions_;
  ports::NasDirectory& network_;
  const EffectsSettings settings_;
  std::atomic<bool> paused_ = false;
};

}  // namespace addrflow::radius

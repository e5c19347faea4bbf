// How patient a workflow is. The worker's configuration decides (`v1::Pace`, in an activity's
// answer); what it leaves at zero, and the first call of a run, go by the values here.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <string>
#include <tempora/activity_type.hpp>
#include <tempora/time.hpp>

namespace addrflow::workflows {

using std::chrono::milliseconds;

class Pace {
 public:
  Pace() = default;
  explicit Pace(v1::Pace wire) : wire_(std::move(wire)) {}

  const v1::Pace& wire() const { return wire_; }
  milliseconds answer_wait() const { return or_default(wire_.answer_wait_ms(), 4'000); }
  milliseconds netbox_pursuit() const { return or_default(wire_.netbox_pursuit_ms(), 600'000); }
  milliseconds gate_poll() const { return or_default(wire_.gate_poll_ms(), 15'000); }
  milliseconds idle() const { return milliseconds{wire_.idle_ms()}; }
  // Doubled with every attempt, up to the largest.
  milliseconds effect_retry(int attempts) const;
  bool search_attributes() const { return wire_.search_attributes(); }

  // Ledger activities are repeated until the database answers; only a refusal ends them.
  tempora::ActivityOptions ledger(const std::string& tenant) const;
  // A plan is worth little when it comes late: a few attempts, then the caller is told.
  tempora::ActivityOptions plan(const std::string& tenant) const;
  // One attempt for each execution: the workflow repeats by itself, so that it sees every outcome.
  tempora::ActivityOptions effect(const std::string& system, const std::string& tenant) const;
  tempora::ActivityOptions compose(const std::string& tenant) const;

 private:
  static milliseconds or_default(std::int64_t value_ms, std::int64_t default_ms) {
    return milliseconds{value_ms > 0 ? value_ms : default_ms};
  }
  v1::Pace wire_;
};

}  // namespace addrflow::workflows

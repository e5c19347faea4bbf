// What a run holds. The engine's own is counted where it is allocated; of what the workflow holds
// only the workflow knows, so without a word from it all that it was ever given counts.
#include <algorithm>

#include "engine/misuse.hpp"
#include "engine/run_state.hpp"

namespace tempora::engine {
namespace {

// The run's ids, names and options, and its entry in the worker's cache.
constexpr std::size_t kAroundRunBytes = 1'024;
// Beside its data: a payload with its metadata, in a map.
constexpr std::size_t kKeptPayloadBytes = 256;
constexpr std::size_t kMapEntryBytes = 96;

std::size_t data_bytes(const Payloads& payloads) {
  std::size_t bytes = 0;
  for (const Payload& payload : payloads.payloads()) bytes += payload.data().size();
  return bytes;
}

template <class Map>
std::size_t kept_bytes(const Map& payloads) {
  std::size_t bytes = 0;
  for (const auto& [name, payload] : payloads) bytes += kKeptPayloadBytes + payload.data().size();
  return bytes;
}

}  // namespace

void RunState::count_given(const Payload& value) { given_bytes_ += value.data().size(); }

void RunState::count_given(const Payloads& values) { given_bytes_ += data_bytes(values); }

void RunState::fulfil(detail::FutureState& future, const Payload* result) {
  if (result != nullptr && future.pending()) count_given(*result);
  future.fulfil_from(result);
}

// At the end of a task, on the thread of the workflow's code and under its watchdog.
void RunState::measure_workflow() {
  if (ended_ || definition_ == nullptr || !definition_->held_bytes) return;
  scheduler_.read_only = true;
  workflow_says_held_ = definition_->held_bytes(workflow_.get());
  scheduler_.read_only = false;
  Misuse::rethrow();
}

std::size_t RunState::memory_bytes() const {
  std::size_t bytes = kAroundRunBytes + sizeof(RunState);
  bytes += static_cast<std::size_t>(std::max<std::ptrdiff_t>(scheduler_.counted_bytes, 0));
  bytes += roots_.size() * sizeof(detail::Root) + outgoing_.capacity() * sizeof(Outgoing) +
           operations_.capacity() * sizeof(operations_[0]);
  bytes += kMapEntryBytes * (known_patches_.size() + patch_answers_.size() +
                             change_versions_.size() + admitted_.size());
  bytes += kept_bytes(info_.memo) + kept_bytes(info_.search_attributes.fields());
  if (late_signals_ != nullptr) {
    for (const LateSignals::Waiting& signal : late_signals_->waiting)
      bytes += kKeptPayloadBytes + data_bytes(signal.input);
  }
  if (definition_ == nullptr) return bytes;
  return bytes + definition_->object_bytes +
         (definition_->held_bytes ? workflow_says_held_ : given_bytes_);
}

}  // namespace tempora::engine

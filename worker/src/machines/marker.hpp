// Commands that only leave a record: nothing ever comes back.
//
// clang-format off
//   state    | on                         | to
//   ---------+----------------------------+-------
//   Created  | its command event (match)  | Final
// clang-format on
//
// Patch markers carry the name and format of the official SDKs, so that Temporal's UI shows them.
#pragma once

#include <optional>

#include "machines/machine.hpp"

namespace tempora::engine {

inline constexpr const char* kPatchMarker = "core_patch";
inline constexpr const char* kPatchData = "patch-data";
inline constexpr const char* kChangeVersion = "TemporalChangeVersion";

struct PatchData {
  std::string id;
  bool deprecated = false;
};
// What a patch marker says; an empty id if the event is none.
PatchData read_patch(const HistoryEvent& event);

class PatchMachine final : public Machine {
 public:
  PatchMachine(RunState& run, std::string id) : Machine(run), id_(std::move(id)) {}
  void record(bool deprecated, SourceLocation where);

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType, const HistoryEvent&) override {}

 private:
  std::string id_;
};

inline constexpr const char* kSideEffectMarker = "SideEffect";

struct SideEffectData {
  std::uint64_t number = 0;
  temporal::api::common::v1::Payload value;
};
// Nothing if the event is no side effect's marker.
std::optional<SideEffectData> read_side_effect(const HistoryEvent& event);

// A value that was made outside determinism, numbered within the run.
class SideEffectMachine final : public Machine {
 public:
  SideEffectMachine(RunState& run, std::uint64_t number) : Machine(run), number_(number) {}
  void record(const temporal::api::common::v1::Payload& value, SourceLocation where);

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType, const HistoryEvent&) override {}

 private:
  std::uint64_t number_;
};

// Upserts of search attributes and memo: compared by type only.
class UpsertMachine final : public Machine {
 public:
  using Machine::Machine;
  std::string describe(enums::CommandType type) const override { return name_of(type); }
  bool matches(enums::CommandType, const HistoryEvent&) const override { return true; }
  void recorded(enums::CommandType, const HistoryEvent&) override {}
};

// The end of the run: compared by type only.
class TerminalMachine final : public Machine {
 public:
  using Machine::Machine;
  std::string describe(enums::CommandType type) const override { return name_of(type); }
  bool matches(enums::CommandType, const HistoryEvent&) const override { return true; }
  void recorded(enums::CommandType, const HistoryEvent&) override {}
};

}  // namespace tempora::engine

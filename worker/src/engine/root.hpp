// A root coroutine of a run: the workflow's main, a handler of a signal or an update, or something spawned.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <tempora/detail/scheduler.hpp>
#include <tempora/task.hpp>

namespace tempora::engine {
class UpdateMachine;
enum class RootKind : std::uint8_t { kMain, kSignal, kUpdate, kSpawned };
}  // namespace tempora::engine

namespace tempora::detail {

struct Root {
  Task<void> task;
  Ref<ScopeState> scope;
  FutureState* waiting_for = nullptr;  // for the stack trace
  Ref<RefCounted> subject;             // of an update: its machine; of a spawned one: its future
  std::string name;                    // of the signal or update
  std::source_location where{};
  engine::RootKind kind = engine::RootKind::kMain;
};

}  // namespace tempora::detail

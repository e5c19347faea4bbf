// A root coroutine of a run: the workflow's main, a handler of a signal or an update, or something
// spawned.
#pragma once

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <tempora/detail/scheduler.hpp>
#include <tempora/task.hpp>

namespace tempora::engine {
class UpdateMachine;
enum class RootKind : std::uint8_t { kMain, kSignal, kUpdate, kSpawned };

// What stands behind the handle of a spawned task: cancelling it cancels the task's own scope.
class SpawnedTask final : public detail::RefCounted, public detail::Cancellable {
 public:
  SpawnedTask(detail::Ref<detail::FutureState> future, detail::Ref<detail::ScopeState> scope)
      : future_(std::move(future)), scope_(std::move(scope)) {
    future_->owner = this;
  }
  ~SpawnedTask() override {
    if (future_->owner == this) future_->owner = nullptr;
  }
  void cancel(const std::string& reason) override {
    scope_->cancel(reason.empty() ? "task canceled" : reason);
  }
  // It failed, and no handle is left through which anybody could learn of it.
  bool failed_unseen() const {
    return future_->failed() && !future_->observed && future_->unique();
  }

 private:
  detail::Ref<detail::FutureState> future_;
  detail::Ref<detail::ScopeState> scope_;
};

}  // namespace tempora::engine

namespace tempora::detail {

struct Root {
  // What the coroutine was made from, if it is not the definition; its frame refers to it.
  std::shared_ptr<const void> keeper;
  Task<void> task;
  Ref<ScopeState> scope;
  FutureState* waiting_for = nullptr;  // for the stack trace
  Ref<RefCounted> subject;             // of an update: its machine; of a spawned one: its future
  std::string name;                    // of the signal or update
  std::source_location where{};
  engine::RootKind kind = engine::RootKind::kMain;
};

}  // namespace tempora::detail

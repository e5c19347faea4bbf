// Undo what was done, newest first, when a later step fails.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <tempora/activity_type.hpp>
#include <tempora/failure.hpp>
#include <tempora/workflow.hpp>
#include <utility>
#include <vector>

namespace tempora {

// A member or local of a workflow. An undo is registered before its step is asked for: a step whose
// answer got lost may have happened, so undos must be idempotent and must accept that there is
// nothing to undo.
//
//   Saga saga{ctx};
//   try {
//     saga.on_failure(kReleaseSeat, wanted);
//     seat = co_await ctx.execute(kReserveSeat, wanted);
//     co_return seat;
//   } catch (const Failure&) {
//     saga.remember();
//   }
//   co_await saga.unwind();  // `co_await` is not allowed inside a `catch`
//   saga.rethrow();
class Saga {
 public:
  explicit Saga(Context& context) : context_(&context) {}
  Saga(const Saga&) = delete;
  Saga& operator=(const Saga&) = delete;

  // Runs an activity as the undo.
  template <class I, class O>
  void on_failure(const ActivityType<I, O>& type, I request, ActivityOptions options = {},
                  SourceLocation where = SourceLocation::current()) {
    undos_.push_back([context = context_, type, request = std::move(request),
                      options = std::move(options),
                      where] { return run(context, type, request, options, where); });
  }
  // `undo` is kept until `unwind` has ended, so a coroutine that it makes may refer to what it
  // captured.
  void on_failure(std::function<Task<void>()> undo) { undos_.push_back(std::move(undo)); }
  // Nothing of what is registered so far will be undone: the work has passed its point of no
  // return.
  void forget() { undos_.clear(); }

  // Inside a `catch`: keeps the failure for `rethrow`.
  void remember() { failure_ = std::current_exception(); }

  // Runs every undo, newest first, where no cancellation reaches it. One that fails does not keep
  // the others from being tried; its failure is found in `undo_failures`.
  Task<void> unwind() {
    const auto all = [this] { return unwind_all(); };
    co_await context_->shielded(all);
  }
  const std::vector<std::exception_ptr>& undo_failures() const { return undo_failures_; }

  // Throws what `remember` kept. Throws `WorkflowMisuse` if that is nothing.
  [[noreturn]] void rethrow() const {
    if (!failure_) detail::raise_misuse("Saga::rethrow without a failure remembered");
    std::rethrow_exception(failure_);
  }

 private:
  template <class I, class O>
  static Task<void> run(Context* context, ActivityType<I, O> type, I request,
                        ActivityOptions options, SourceLocation where) {
    co_await context->execute(type, request, options, where);
  }

  Task<void> unwind_all() {
    while (!undos_.empty()) {
      const std::function<Task<void>()> undo = std::move(undos_.back());
      undos_.pop_back();
      try {
        co_await undo();
      } catch (const Failure&) {
        undo_failures_.push_back(std::current_exception());
      }
    }
  }

  Context* context_;
  std::vector<std::function<Task<void>()>> undos_;
  std::vector<std::exception_ptr> undo_failures_;
  std::exception_ptr failure_;
};

}  // namespace tempora

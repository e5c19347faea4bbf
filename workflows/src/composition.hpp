// What the composed workflows have in common: one of them runs at a time for a service, each step
// is an update to the service's own workflow, everything can be watched, and an operator may pause,
// resume, retry, skip or give up.
#pragma once

#include "pace.hpp"

#include <addrflow/v1/operators.pb.h>
#include <addrflow/v1/provision.pb.h>
#include <addrflow/catalog/catalog.hpp>
#include <addrflow/domain/operation.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tempora/workflow.hpp>
#include <vector>

namespace addrflow::workflows {

using tempora::Context;
using tempora::Task;

// What an operator may say, as a signal or as an update of that name.
enum class Command { kPause, kResume, kRetry, kSkip, kGiveUp };

class Composition {
 public:
  virtual ~Composition() = default;

  v1::CompositionProgress progress() const;

  // --- operators. What is said goes on record in the ledger's audit log with actor and reason.
  template <Command C>
  Task<v1::CompositionProgress> on_update(Context& context, v1::OperatorRequest request) {
    return obey(context, C, std::move(request));
  }
  template <Command C>
  void may(const v1::OperatorRequest& request) const {
    check(C, request);
  }
  // Decoded by hand: what cannot be read is put on record, and the workflow goes on.
  template <Command C>
  Task<void> on_signal(Context& context, tempora::RawPayload payload) {
    return obey_signal(context, C, std::move(payload));
  }

 protected:
  struct Subject {
    v1::ServiceRef service;
    std::string kind;  // provision, deprovision, suspend, reactivate
    std::string key;
    std::string actor;
    std::string request_hash;
  };

  explicit Composition(const std::vector<std::string>& steps);

  // Claims the service, performs, undoes what failed, records the result. Throws an application
  // error that carries the result when it is not a success.
  Task<v1::CompositionResult> carry_out(Context& context, Subject subject);

  // commit = false: the answer says what would be done; nothing is claimed, nothing changed.
  Task<v1::CompositionResult> plan(Context& context, v1::PlanRequest request);

  // The steps, in order. A failure out of it ends the composition.
  virtual Task<void> perform(Context& context) = 0;
  // Takes back what `perform` did; called only after it failed.
  virtual Task<void> take_back(Context& context, std::string reason);

  // One update to the service. Throws when it is refused or fails. What is only a matter of time
  // blocks it: it is tried again until it is done, an operator skips it, or gives up. Of a skipped
  // step the result is empty, its code "skipped".
  Task<v1::LifecycleResult> step(Context& context, std::string name,
                                 v1::ComposeUpdateRequest request);
  // The same while undoing: nobody can give it up.
  Task<v1::LifecycleResult> undo_step(Context& context, v1::ComposeUpdateRequest request);
  // What the undo could not take back: the answer names it.
  void stays(const std::string& what);
  // Of a step that was marked as undone and is not.
  void not_undone(std::string_view name, std::string_view status, const std::string& why);
  // A step without an update: true if it is to be done, false if an operator skips it.
  Task<bool> begin(Context& context, std::string name);
  v1::ComposeUpdateRequest request_for(domain::Operation operation, std::string_view step) const;
  v1::Caller caller_for(std::string_view step, std::string reason) const;
  // The composition can do without it, so an operator may skip it.
  void make_optional(std::string_view name);
  void mark(std::string_view name, std::string_view status, std::string message = {});
  // Replaces the list of steps once it is known what there is to do.
  void set_steps(const std::vector<std::string>& steps);
  // One update does both families' steps: the follower is marked with its leader.
  void together(const std::string& leader, const std::string& follower);
  // True while nothing is known to have been refused: an update that was sent may have happened.
  bool maybe_done(std::string_view name) const;

  const Subject& subject() const { return subject_; }
  // The service as it was when this composition claimed it.
  const v1::ServiceView& view() const { return view_; }
  void fill_context(const v1::LifecycleResult& last);

 private:
  struct Claimed {
    bool mine = false;
    v1::CompositionResult result;  // of another run, or of an earlier one with this key
  };
  struct Tried {
    v1::ComposeUpdateReply reply;
    std::exception_ptr failed;
    std::string why;
    bool passing = false;  // the failure is a matter of time
  };
  Task<Claimed> claim(Context& context);
  Task<void> finish(Context& context, v1::CompositionResult result);
  Task<Tried> attempt(Context& context, std::string name, v1::ComposeUpdateRequest request);
  Task<void> wait_for_another_attempt(Context& context, std::string name, int attempt);
  void show(Context& context) const;
  void throw_if_given_up() const;
  void show_steps(const v1::CompositionResult& result);
  // The step of this name, and what is done along with it.
  std::vector<v1::StepProgress*> steps_named(std::string_view name);
  const v1::StepProgress* find(std::string_view name) const;

  // --- operators
  Task<v1::CompositionProgress> obey(Context& context, Command command,
                                     v1::OperatorRequest request);
  Task<void> obey_signal(Context& context, Command command, tempora::RawPayload payload);
  void apply(Context& context, Command command, const v1::OperatorRequest& request);
  // Throws what is wrong with it now.
  void check(Command command, const v1::OperatorRequest& request) const;
  Task<void> record(Context& context, std::string event, std::string actor, std::string code,
                    std::string detail);
  bool skip_asked(std::string_view name) const;
  bool is_optional(std::string_view name) const;

  Subject subject_;
  Context* context_ = nullptr;  // from `carry_out` on
  Pace pace_;
  v1::CompositionProgress progress_;
  v1::ServiceView view_;
  std::map<std::string, std::string> followers_;
  v1::CompositionResult result_;
  std::string stays_;
  std::optional<tempora::Future<v1::ComposeUpdateReply>> current_;
  std::string running_;  // the step whose update is under way, or which waits for another attempt
  std::vector<std::string> skips_;
  std::vector<std::string> optional_;
  bool paused_ = false;
  bool retry_asked_ = false;
  bool given_up_ = false;
  std::string given_up_reason_;
};

std::string_view to_string(Command command);

// The application error that a result which is no success becomes.
[[noreturn]] void throw_result(const v1::CompositionResult& result);

}  // namespace addrflow::workflows

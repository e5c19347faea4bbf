// What the composed workflows have in common: one of them runs at a time for a service, each step
// is an update to the service's own workflow, everything can be watched, given up and, where it
// must be, taken back.
#pragma once

#include "pace.hpp"

#include <addrflow/v1/provision.pb.h>
#include <addrflow/catalog/catalog.hpp>
#include <addrflow/domain/operation.hpp>
#include <map>
#include <optional>
#include <string>
#include <tempora/workflow.hpp>
#include <vector>

namespace addrflow::workflows {

using tempora::Context;
using tempora::Task;

class Composition {
 public:
  virtual ~Composition() = default;

  v1::Progress progress() const { return progress_; }
  // What runs is stopped and, where the composition says so, undone. The argument is the reason, if
  // any.
  void give_up(tempora::RawPayload reason);

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

  // The steps, in order. A failure out of it ends the composition.
  virtual Task<void> perform(Context& context) = 0;
  // Takes back what `perform` did; called only after it failed.
  virtual Task<void> take_back(Context& context, std::string reason);

  // One update to the service. Throws when it is refused or fails.
  Task<v1::LifecycleResult> step(Context& context, std::string name,
                                 v1::ComposeUpdateRequest request);
  // The same while undoing: nobody can give it up.
  Task<v1::LifecycleResult> undo_step(Context& context, v1::ComposeUpdateRequest request);
  v1::ComposeUpdateRequest request_for(domain::Operation operation, std::string_view step) const;
  v1::Caller caller_for(std::string_view step, std::string reason) const;
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
  Task<Claimed> claim(Context& context);
  Task<void> finish(Context& context, v1::CompositionResult result);
  void show(Context& context) const;
  void throw_if_given_up() const;

  Subject subject_;
  Pace pace_;
  v1::Progress progress_;
  v1::ServiceView view_;
  std::map<std::string, std::string> followers_;
  v1::CompositionResult result_;
  std::optional<tempora::Future<v1::ComposeUpdateReply>> current_;
  bool given_up_ = false;
  std::string given_up_reason_;
};

// The application error that a result which is no success becomes.
[[noreturn]] void throw_result(const v1::CompositionResult& result);

}  // namespace addrflow::workflows

// The composed workflows an orchestration engine starts: provision, deprovision, suspend and
// reactivate a subscriber.
#pragma once

#include "composition.hpp"

#include <tempora/definition.hpp>

namespace addrflow::workflows {

// Gives a subscriber what it is to have, of one family or of both, and entitles the line; or leaves
// everything as it was.
class ProvisionSubscriber final : public Composition {
 public:
  ProvisionSubscriber();
  Task<v1::CompositionResult> run(Context& context, tempora::RawPayload input);

 private:
  Task<void> perform(Context& context) override;
  Task<void> take_back(Context& context, std::string reason) override;
  v1::ComposeUpdateRequest allocation() const;
  v1::ComposeUpdateRequest activation(const std::vector<std::string>& families) const;
  void choose_families();
  void name_what_stays(const v1::LifecycleResult& undone);
  v1::ProvisionRequest request_;
  std::vector<std::string> families_;  // that this request brings
};

// Takes the line back. A provision that is under way is made to give up and undo first.
class DeprovisionSubscriber final : public Composition {
 public:
  DeprovisionSubscriber();
  Task<v1::CompositionResult> run(Context& context, tempora::RawPayload input);

 private:
  Task<void> perform(Context& context) override;
  v1::DeprovisionRequest request_;
};

class SuspendSubscriber final : public Composition {
 public:
  SuspendSubscriber();
  Task<v1::CompositionResult> run(Context& context, tempora::RawPayload input);

 private:
  Task<void> perform(Context& context) override;
  v1::SubscriberRequest request_;
};

class ReactivateSubscriber final : public Composition {
 public:
  ReactivateSubscriber();
  Task<v1::CompositionResult> run(Context& context, tempora::RawPayload input);

 private:
  Task<void> perform(Context& context) override;
  v1::SubscriberRequest request_;
};

extern const tempora::Definition<ProvisionSubscriber> kProvisionDefinition;
extern const tempora::Definition<DeprovisionSubscriber> kDeprovisionDefinition;
extern const tempora::Definition<SuspendSubscriber> kSuspendDefinition;
extern const tempora::Definition<ReactivateSubscriber> kReactivateDefinition;

}  // namespace addrflow::workflows

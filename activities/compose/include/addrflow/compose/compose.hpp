// What a workflow cannot do by itself: send an update to another workflow and wait for it. These
// activities wait long, so they have a task queue of their own (docs/workflows.md).
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/catalog/catalog.hpp>
#include <addrflow/ports/effect_journal.hpp>

#include <tempora/activity.hpp>
#include <tempora/client.hpp>
#include <tempora/logging.hpp>
#include <tempora/worker.hpp>

namespace addrflow::compose {

struct Options {
  // How long one call waits before the activity shows that it lives and looks whether it should
  // stop.
  std::chrono::milliseconds slice{2'000};
};

class ComposeActivities {
 public:
  explicit ComposeActivities(tempora::Client client, Options options = {});

  // Update-with-start to the service's workflow. The same update id is the same update: a repeated
  // attempt attaches to what the one before it began. A refusal is a result (`success` false with
  // code and message), never a failure.
  v1::ComposeUpdateReply update(tempora::ActivityContext& context,
                                const v1::ComposeUpdateRequest& request) const;

  // Waits until another composition has ended, after telling it to give up if that is asked.
  v1::ComposeWaitReply wait(tempora::ActivityContext& context,
                            const v1::ComposeWaitRequest& request) const;

 private:
  tempora::Client client_;
  Options options_;
};

// Both activities, on the worker of `catalog::kComposeQueue`.
void register_activities(tempora::Worker& worker, const ComposeActivities& activities);

// Wakes a service's workflow by signal-with-start.
class ClientWaker final : public ports::ServiceWaker {
 public:
  explicit ClientWaker(tempora::Client client, tempora::Logger log = tempora::Logger::standard());
  bool wake(const v1::ServiceRef& service) noexcept override;

 private:
  tempora::Client client_;
  tempora::Logger log_;
};

}  // namespace addrflow::compose

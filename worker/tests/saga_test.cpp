// A saga's undos: newest first, all of them, also when one fails and when the workflow was
// cancelled.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <peers.hpp>
#include <tempora/saga.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<std::string, Void> kDo{"do", {.start_to_close = 10s}};
const ActivityType<std::string, Void> kUndo{"undo", {.start_to_close = 10s}};

struct Steps {
  Task<void> run(Context& ctx, std::vector<std::string> steps) {
    Saga saga{ctx};
    try {
      for (const std::string& step : steps) {
        saga.on_failure(kUndo, step);
        if (step == "wait") co_await ctx.sleep(1h);
        co_await ctx.execute(kDo, step);
      }
      co_return;
    } catch (const Failure&) {
      saga.remember();
    }
    co_await saga.unwind();
    failed_undos_ = static_cast<int>(saga.undo_failures().size());
    saga.rethrow();
  }
  int failed_undos() const { return failed_undos_; }

 private:
  int failed_undos_ = 0;
};
const Definition<Steps> kSteps{"Steps", run(&Steps::run),
                               query("failed_undos", &Steps::failed_undos)};

// What the activities did, in order. Thread-safe.
class Deeds {
 public:
  void note(const std::string& what) {
    const std::lock_guard lock{mutex_};
    done_.push_back(what);
  }
  std::vector<std::string> done() {
    const std::lock_guard lock{mutex_};
    return done_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> done_;
};

void prepare(Stage& stage, const std::shared_ptr<Deeds>& deeds) {
  stage.runs(kSteps);
  stage.does(kDo, [deeds](ActivityContext&, const std::string& step) {
    if (step == "bad") throw ApplicationError{"no", "Refused", true};
    deeds->note("do " + step);
    return Void{};
  });
  stage.does(kUndo, [deeds](ActivityContext&, const std::string& step) {
    deeds->note("undo " + step);
    if (step == "b") throw ApplicationError{"cannot be undone", "Stuck", true};
    return Void{};
  });
  stage.start_worker();
}

TEST(Saga, EveryUndoIsTriedNewestFirstAndTheFirstFailureIsTold) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    const auto deeds = std::make_shared<Deeds>();
    prepare(stage, deeds);
    const auto handle = stage.start(kSteps, std::vector<std::string>{"a", "b", "c", "bad", "d"});
    const auto result = handle.result();
    ASSERT_FALSE(result.has_value());
    const auto* why = find_application_error(*result.error().failure);
    ASSERT_NE(why, nullptr);
    EXPECT_EQ(why->type(), "Refused");
    EXPECT_EQ(deeds->done(), (std::vector<std::string>{"do a", "do b", "do c", "undo bad", "undo c",
                                                       "undo b", "undo a"}));
    EXPECT_EQ(must(handle.query<int>("failed_undos")), 1);
  });
}

TEST(Saga, ACancelledWorkflowUndoesWhatItDid) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    const auto deeds = std::make_shared<Deeds>();
    prepare(stage, deeds);
    const auto handle = stage.start(kSteps, std::vector<std::string>{"a", "wait"});
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_TIMER_STARTED);
    must(handle.cancel("enough"));
    const auto result = handle.result();
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, ErrorCode::kWorkflowCanceled);
    EXPECT_EQ(deeds->done(), (std::vector<std::string>{"do a", "undo wait", "undo a"}));
  });
}

}  // namespace
}  // namespace tempora::behaviour

// What the server would end a workflow for fails the task, or the update that asked for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tempora/definition.hpp>
#include <utility>

#include "testing/history_builder.hpp"
#include "testing/scenario.hpp"

namespace tempora {
namespace {

using testing::commands_of;
using ::testing::HasSubstr;
using testing::result_of;
using testing::Scenario;

constexpr std::size_t kLimit = std::size_t{2} << 20;

void expect_too_large(Scenario& scenario, const std::string& what) {
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kFailed);
  EXPECT_EQ(scenario.outcome().cause,
            temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE);
  EXPECT_THAT(scenario.outcome().failure.message(), HasSubstr(what));
}

// --- search attributes

SearchAttributes keyword(const std::string& name, int bytes) {
  return SearchAttributes{}.set_keyword(name, std::string(static_cast<std::size_t>(bytes), 'x'));
}

struct OneLabel {
  Task<std::string> run(Context& ctx, int bytes) {
    ctx.upsert_search_attributes(keyword("Label", bytes));
    co_return "done";
  }
};
const Definition<OneLabel> kOneLabel{"OneLabel", run(&OneLabel::run)};

TEST(SearchAttributeSizes, AValueHasALimit) {
  Scenario fits{kOneLabel, 2'046};  // and its two quotes
  EXPECT_EQ(result_of(fits.task()), "done");
  Scenario large{kOneLabel, 2'047};
  expect_too_large(large, "the value of search attribute Label is 2049 bytes, the limit is 2048");
}

struct ManyLabels {
  int next = 0;
  Task<void> run(Context& ctx) {
    co_await ctx.wait_until([] { return false; });
  }
  void add(Context& ctx, int count) {
    for (; count > 0; --count) ctx.upsert_search_attributes(keyword(std::to_string(++next), 2'000));
  }
  void add_and_remove(Context& ctx, int count) {
    add(ctx, count);
    SearchAttributes none;
    for (int i = 1; i <= next; ++i) none.unset(std::to_string(i));
    ctx.upsert_search_attributes(none);
  }
};
const Definition<ManyLabels> kManyLabels{"ManyLabels", run(&ManyLabels::run),
                                         signal("add", &ManyLabels::add),
                                         signal("add_and_remove", &ManyLabels::add_and_remove)};

TEST(SearchAttributeSizes, WhatIsThereAlreadyCountsToo) {
  Scenario scenario{kManyLabels};
  scenario.signal("add", 15);
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kCompleted);
  scenario.signal("add", 15);
  expect_too_large(scenario, "the sum of all search attributes is 6");
}

TEST(SearchAttributeSizes, WhatIsRemovedCountsNoMore) {
  Scenario scenario{kManyLabels};
  for (int i = 0; i < 3; ++i) {
    scenario.signal("add_and_remove", 15);
    scenario.task();
    EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kCompleted);
  }
}

TEST(SearchAttributeSizes, EachUpsertIsJudgedByItself) {
  Scenario scenario{kManyLabels};
  scenario.signal("add_and_remove", 25);
  expect_too_large(scenario, "the sum of all search attributes is 5");
}

struct Starts {
  Task<std::string> run(Context& ctx, int bytes) {
    ChildWorkflowOptions options;
    options.id = "child";
    options.search_attributes = keyword("Label", bytes);
    const auto child = ctx.start_child(kOneLabel, options, 1);
    co_return co_await child.result();
  }
};
const Definition<Starts> kStarts{"Starts", run(&Starts::run)};

TEST(SearchAttributeSizes, AChildHasTheSameLimit) {
  Scenario large{kStarts, 3'000};
  expect_too_large(large, "the value of search attribute Label is 3002 bytes");
}

// The first task of a run that has other limits.
template <class W, class... A>
engine::TaskOutcome first_task(const Definition<W>& definition, engine::RunOptions options,
                               const A&... arguments) {
  WorkflowRegistry registry;
  registry.add(definition);
  testing::HistoryBuilder history;
  history.started(definition.name(), arguments...);
  history.task_started();
  engine::Run run{registry, std::move(options)};
  return run.process(history.full_task());
}

TEST(SearchAttributeSizes, TheLimitsAreOptionsAndZeroIsNone) {
  using Kind = engine::TaskOutcome::Kind;
  const int bytes = 50'000;
  engine::RunOptions options;
  options.search_attribute_limit_bytes = 60'000;
  const auto sum = first_task(kOneLabel, options, bytes);
  EXPECT_EQ(sum.kind, Kind::kFailed);
  EXPECT_THAT(sum.failure.message(), HasSubstr("the sum of all search attributes is 5"));
  options.search_attributes_limit_bytes = 60'000;
  EXPECT_EQ(first_task(kOneLabel, options, bytes).kind, Kind::kCompleted);
  options.search_attribute_limit_bytes = options.search_attributes_limit_bytes = 0;
  EXPECT_EQ(first_task(kOneLabel, options, bytes).kind, Kind::kCompleted);
  EXPECT_EQ(first_task(kStarts, options, bytes).kind, Kind::kCompleted);
  options.search_attribute_limit_bytes = 1'000;
  const auto value = first_task(kOneLabel, options, bytes);
  EXPECT_EQ(value.kind, Kind::kFailed);
  EXPECT_THAT(value.failure.message(), HasSubstr("is 50002 bytes, the limit is 1000"));
}

// --- memo

struct Notes {
  Task<void> run(Context& ctx) {
    co_await ctx.wait_until([] { return false; });
  }
  Task<void> note(Context& ctx, std::string name) {
    ctx.upsert_memo(name, std::string(1'500'000, 'x'));
    co_return;
  }
};
const Definition<Notes> kNotes{"Notes", run(&Notes::run), signal("note", &Notes::note)};

TEST(MemoSizes, WhatIsThereAlreadyCountsToo) {
  Scenario scenario{kNotes};
  scenario.signal("note", std::string{"a"});
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kCompleted);
  scenario.signal("note", std::string{"a"});  // in the place of the first
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kCompleted);
  scenario.signal("note", std::string{"b"});
  expect_too_large(scenario, "the memo of the workflow is 3000");
}

// --- local activities

const ActivityType<Void, std::string> kFetch{"fetch", {.start_to_close = std::chrono::seconds{5}}};

struct Fetches {
  Task<int> run(Context& ctx) {
    const auto one = ctx.start_local(kFetch);
    const auto two = ctx.start_local(kFetch);
    const std::string first = co_await one;
    const std::string second = co_await two;
    co_return static_cast<int>(first.size() + second.size());
  }
};
const Definition<Fetches> kFetches{"Fetches", run(&Fetches::run)};

engine::LocalResult fetched(std::uint64_t seq, std::size_t bytes) {
  engine::LocalResult end;
  end.seq = seq;
  end.result = encode_all(std::string(bytes, 'x'));
  return end;
}

// An answer has 4 MiB; the half of it is for what the workflow makes of the last result.
TEST(LocalActivitySizes, AResultWithoutRoomBesideTheOthersWaitsForTheNextTask) {
  using Kind = engine::TaskOutcome::Kind;
  WorkflowRegistry registry;
  registry.add(kFetches);
  testing::HistoryBuilder history;
  history.started(kFetches.name());
  history.task_started();
  const auto task = history.full_task();
  engine::Run run{registry, {}};
  ASSERT_EQ(run.process(task).kind, Kind::kLocalActivities);
  EXPECT_TRUE(run.has_room(fetched(1, kLimit))) << "a heartbeat would make no more room";
  ASSERT_EQ(run.resolve(task, fetched(1, 1'400'000)).kind, Kind::kLocalActivities);
  EXPECT_TRUE(run.has_room(fetched(2, 400'000)));
  EXPECT_FALSE(run.has_room(fetched(2, 1'400'000)));
  const auto beat = run.heartbeat(task);
  EXPECT_EQ(beat.kind, Kind::kCompleted);
  EXPECT_EQ(commands_of(beat.completion), "RECORD_MARKER");
  EXPECT_TRUE(run.has_room(fetched(2, 1'400'000)));
}

// --- updates

struct Answers {
  int given = 0;
  bool stop = false;
  Task<std::string> run(Context& ctx) {
    co_await ctx.wait_until([this] { return stop; });
    co_return std::to_string(given);
  }
  Task<std::string> give(Context&, std::string what) {
    ++given;
    if (what == "failure") throw ApplicationError{std::string(kLimit, 'x')};
    co_return what == "much" ? std::string(kLimit, 'x') : what;
  }
  void may_give(const std::string& what) const {
    if (what == "refusal") throw ApplicationError{std::string(kLimit, 'x')};
  }
  void finish(Context&) { stop = true; }
};
const Definition<Answers> kAnswers{"Answers", run(&Answers::run),
                                   update("give", &Answers::give, &Answers::may_give),
                                   signal("finish", &Answers::finish)};

template <class Body>
Body body_of(const Scenario::Completion& completion, const std::string& id) {
  for (const auto& message : completion.messages()) {
    Body body;
    if (message.protocol_instance_id() == id && message.body().UnpackTo(&body)) return body;
  }
  ADD_FAILURE() << "no such message";
  return {};
}

// The acceptance repeats the request, a rejection needs not.
TEST(UpdateSizes, OneWhoseAcceptanceIsTooLargeIsRejected) {
  Scenario scenario{kAnswers};
  scenario.update("u1", "give", std::string(kLimit - 100, 'x'));
  const auto rejected = scenario.task();
  EXPECT_EQ(commands_of(rejected), "");
  const auto body = body_of<temporal::api::update::v1::Rejection>(rejected, "u1");
  EXPECT_EQ(body.failure().application_failure_info().type(), "PayloadsTooLarge");
  EXPECT_FALSE(body.has_rejected_request());
  EXPECT_EQ(body.rejected_request_message_id(), "u1/request");
  scenario.signal("finish");
  EXPECT_EQ(result_of(scenario.task()), "0");
}

TEST(UpdateSizes, ARejectionThatIsTooLargeSaysSo) {
  Scenario scenario{kAnswers};
  scenario.update("u1", "give", std::string{"refusal"});
  const auto body = body_of<temporal::api::update::v1::Rejection>(scenario.task(), "u1");
  EXPECT_EQ(body.failure().application_failure_info().type(), "PayloadsTooLarge");
  scenario.signal("finish");
  EXPECT_EQ(result_of(scenario.task()), "0");
}

// The scenario's replays see the failure in the history, and the handler that returned.
TEST(UpdateSizes, AnAnswerThatIsTooLargeBecomesAFailureAndTheRunGoesOn) {
  for (const std::string what : {"much", "failure"}) {
    SCOPED_TRACE(what);
    Scenario scenario{kAnswers};
    scenario.update("u1", "give", what);
    const auto first = scenario.task();
    EXPECT_EQ(commands_of(first),
              "PROTOCOL_MESSAGE(u1/request/accept) PROTOCOL_MESSAGE(u1/request/complete)");
    const auto body = body_of<temporal::api::update::v1::Response>(first, "u1");
    EXPECT_EQ(body.outcome().failure().application_failure_info().type(), "PayloadsTooLarge");
    EXPECT_THAT(body.outcome().failure().message(), HasSubstr("the answer of update u1 is 209"));
    EXPECT_EQ(body.meta().update_id(), "u1");
    scenario.update("u2", "give", std::string{"little"});
    scenario.task();
    scenario.signal("finish");
    EXPECT_EQ(result_of(scenario.task()), "2");
  }
}

}  // namespace
}  // namespace tempora

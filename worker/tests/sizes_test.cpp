// What is too large for the server never reaches it: it would end the workflow.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <map>
#include <peers.hpp>
#include <stdexcept>
#include <tempora/codec.hpp>
#include <vector>

#include "lines.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

constexpr std::size_t kTooMuch = (std::size_t{2} << 20) + 100;
const RetryPolicy kOnce{.maximum_attempts = 1};

const ActivityType<std::string, std::string> kEchoes{"echoes",
                                                     {.start_to_close = 20s, .retry = kOnce}};
const ActivityType<std::string, std::string> kBeats{
    "beats", {.start_to_close = 20s, .heartbeat = 10s, .retry = kOnce}};

// What `how` names is too large until the code is mended.
struct Large {
  static std::atomic<bool> mended;
  static std::string much() { return std::string(mended ? 10 : kTooMuch, 'x'); }
  std::string note;

  Task<std::string> run(Context& ctx, std::string how) {
    if (how == "memo") ctx.upsert_memo("note", much());
    if (how == "attribute") {
      SearchAttributes changes;
      changes.set_keyword("TemporaBehaviour", std::string(mended ? 10 : 3'000, 'x'));
      ctx.upsert_search_attributes(changes);
    }
    if (how == "memos") {
      ctx.upsert_memo("note", std::string(1'500'000, 'x'));
      co_await ctx.sleep(10ms);
      ctx.upsert_memo("more", std::string(mended ? 10 : 1'500'000, 'x'));
    }
    if (how == "update") co_await ctx.wait_until([this] { return !note.empty(); });
    const std::string text = how == "input" ? much() : std::string(how == "near" ? 2'000 : 1, 'y');
    if (how == "input" || how == "near") co_await ctx.execute(kEchoes, text);
    const std::string large = "large";
    if (how == "activity") co_await ctx.execute(kEchoes, large);
    if (how == "local") co_await ctx.start_local(kEchoes, large);
    if (how == "beat") co_await ctx.execute(kBeats, large);
    co_return how == "result" ? much() : "done";
  }
  Task<std::string> set(Context&, std::string text) {
    note = std::move(text);
    co_return much();
  }
  std::string ask() const { return much(); }
};
std::atomic<bool> Large::mended = false;
const Definition<Large> kLarge{"Large", run(&Large::run), update("set", &Large::set),
                               query("ask", &Large::ask)};

void play(Stage& stage) {
  stage.runs(kLarge)
      .does(kEchoes,
            [](ActivityContext&, const std::string& text) {
              return text == "large" ? std::string(kTooMuch, 'x') : text;
            })
      .does(kBeats, [](ActivityContext& ctx, const std::string& text) {
        ctx.heartbeat(std::string(kTooMuch, 'x'));
        return text;
      });
}

std::string task_failure(const WorkflowHandle& handle) {
  for (const auto& event : must(handle.history())->events()) {
    if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_FAILED)
      return event.workflow_task_failed_event_attributes().failure().message();
  }
  return {};
}

// The task fails, says what and how much, and the run goes on with code that is mended.
TEST(Sizes, ACommandThatIsTooLargeFailsTheTaskAndNotTheWorkflow) {
  NEEDS_SERVER();
  const std::map<std::string, std::string> named = {
      {"input", "the input of activity echoes is 209"},
      {"memo", "ModifyWorkflowProperties is 209"},
      {"memos", "the memo of the workflow is 3000"},
      {"attribute", "the value of search attribute TemporaBehaviour is 3002"},
      {"result", "CompleteWorkflowExecution is 209"}};
  for (const auto& [how, text] : named) {
    SCOPED_TRACE(how);
    Large::mended = false;
    with_default_cache([&](Stage& stage) {
      must(stage.client().add_search_attributes(
          {{"TemporaBehaviour", SearchAttributeType::kKeyword}}));
      play(stage);
      stage.start_worker();
      const auto handle = stage.start(kLarge, how);
      stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED);
      const std::string told = task_failure(handle);
      EXPECT_NE(told.find("[TMPRL1103]"), std::string::npos) << told;
      EXPECT_NE(told.find(text), std::string::npos) << told;
      Large::mended = true;
      EXPECT_TRUE(handle.result<std::string>());
    });
  }
}

TEST(Sizes, WhatSearchAttributesMayTakeIsAnOptionOfTheWorker) {
  NEEDS_SERVER();
  const std::size_t limit = 2'900;
  for (const bool together : {false, true}) {
    SCOPED_TRACE(together);
    Large::mended = false;
    with_default_cache([&](Stage& stage) {
      must(stage.client().add_search_attributes(
          {{"TemporaBehaviour", SearchAttributeType::kKeyword}}));
      play(stage);
      stage.options.max_search_attribute_bytes = together ? 0 : limit;
      stage.options.max_search_attributes_bytes = together ? limit : 0;
      stage.start_worker();
      const auto handle = stage.start(kLarge, std::string{"attribute"});
      stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED);
      const std::string told = task_failure(handle);
      EXPECT_NE(told.find(together ? "the sum of all" : "the value of"), std::string::npos) << told;
      EXPECT_NE(told.find("the limit is 2900"), std::string::npos) << told;
      Large::mended = true;
      EXPECT_TRUE(handle.result<std::string>());
    });
  }
}

const ActivityType<int, std::string> kFetches{"fetches", {.start_to_close = 20s, .retry = kOnce}};

struct Collects {
  Task<int> run(Context& ctx) {
    std::vector<Future<std::string>> futures;
    for (int which = 0; which < 3; ++which) futures.push_back(ctx.start_local(kFetches, which));
    std::size_t bytes = 0;
    for (const auto& future : futures) {
      const std::string text = co_await future;
      bytes += text.size();
    }
    co_return static_cast<int>(bytes);
  }
};
const Definition<Collects> kCollects{"Collects", run(&Collects::run)};

// One answer has no room for all of them: the task would fail, and they would run again, for ever.
TEST(Sizes, LocalActivitiesThatReturnTooMuchTogetherRunOnce) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::array<std::atomic<int>, 3> calls{};
    stage.runs(kCollects).does(kFetches, [&](ActivityContext&, int which) {
      ++calls.at(static_cast<std::size_t>(which));
      return std::string(1'400'000, 'x');
    });
    stage.start_worker();
    const auto handle = stage.start(kCollects);
    EXPECT_EQ(must(handle.result<int>()), 4'200'000);
    for (const auto& times : calls) EXPECT_EQ(times.load(), 1);
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_MARKER_RECORDED), 3);
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED), 0);
  });
}

TEST(Sizes, AnActivityThatReturnsTooMuchFails) {
  NEEDS_SERVER();
  for (const std::string how : {"activity", "local", "beat"}) {
    SCOPED_TRACE(how);
    with_default_cache([&](Stage& stage) {
      play(stage);
      stage.start_worker();
      const auto result = stage.start(kLarge, how).result<std::string>();
      ASSERT_FALSE(result);
      ASSERT_NE(result.error().failure, nullptr) << result.error().text();
      const ApplicationError* error = find_application_error(*result.error().failure);
      ASSERT_NE(error, nullptr);
      EXPECT_EQ(error->type(), "PayloadsTooLarge");
      EXPECT_NE(std::string{error->what()}.find("20972"), std::string::npos) << error->what();
    });
  }
}

struct Answers {
  int given = 0;
  bool finished = false;
  Task<int> run(Context& ctx) {
    co_await ctx.wait_until([this] { return finished; });
    co_return given;
  }
  Task<std::string> give(Context&, std::string what) {
    ++given;
    co_return what == "much" ? std::string(kTooMuch, 'x') : what;
  }
  Task<std::string> give_later(Context& ctx, std::string what) {
    co_await ctx.sleep(10ms);
    co_return what == "twice" ? std::string(1'200'000, 'x') : what;
  }
  void finish(Context&) { finished = true; }
};
const Definition<Answers> kAnswers{"Answers", run(&Answers::run), update("give", &Answers::give),
                                   update("give_later", &Answers::give_later),
                                   signal("finish", &Answers::finish)};

// Everything takes twice the room.
class Doubling final : public Codec {
 public:
  std::vector<Payload> encode(std::vector<Payload> payloads) const override {
    for (Payload& payload : payloads) {
      const std::string once = payload.SerializeAsString();
      payload.Clear();
      (*payload.mutable_metadata())["encoding"] = "binary/doubled";
      payload.set_data(once + once);
    }
    return payloads;
  }
  std::vector<Payload> decode(std::vector<Payload> payloads) const override {
    for (Payload& payload : payloads) {
      const auto encoding = payload.metadata().find("encoding");
      if (encoding == payload.metadata().end() || encoding->second != "binary/doubled") continue;
      const std::string once = payload.data().substr(0, payload.data().size() / 2);
      if (!payload.ParseFromString(once)) throw std::runtime_error{"not what was doubled"};
    }
    return payloads;
  }
};

TEST(Sizes, AnUpdatesAnswerIsMeasuredAsItIsEncoded) {
  NEEDS_SERVER();
  ConnectionOptions options;
  options.codecs = {.codecs = {std::make_shared<Doubling>()}};
  with_each_cache(
      [](Stage& stage) {
        stage.runs(kAnswers);
        stage.start_worker();
        const auto handle = stage.start(kAnswers);
        EXPECT_EQ(must(handle.update<std::string>("give_later", {}, std::string{"a"})), "a");
        const auto answer = handle.update<std::string>("give_later", {}, std::string{"twice"});
        ASSERT_FALSE(answer.has_value());
        ASSERT_NE(answer.error().application_error(), nullptr) << answer.error().text();
        EXPECT_EQ(answer.error().application_error()->type(), "PayloadsTooLarge");
        const std::string told = task_failure(handle);
        EXPECT_NE(told.find("body of Message has 2400"), std::string::npos) << told;
        must(handle.signal("finish"));
        EXPECT_EQ(must(handle.result<int>()), 0);
      },
      options);
}

// Its arguments just fit into the call, and not into the acceptance, which repeats them; the answer
// of the other is too large.
TEST(Sizes, AnUpdateThatIsTooLargeIsAnsweredAndHoldsNothingUp) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kAnswers);
    stage.start_worker();
    const auto handle = stage.start(kAnswers);
    const std::string nearly((std::size_t{2} << 20) - 100, 'x');
    for (const std::string& what : {nearly, std::string{"much"}}) {
      const auto answer = handle.update<std::string>("give", {}, what);
      ASSERT_FALSE(answer.has_value());
      ASSERT_NE(answer.error().application_error(), nullptr) << answer.error().text();
      EXPECT_EQ(answer.error().application_error()->type(), "PayloadsTooLarge");
    }
    EXPECT_EQ(must(handle.update<std::string>("give", {}, std::string{"a"})), "a");
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<int>()), 2);
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED), 0);
  });
}

TEST(Sizes, ACallThatIsTooLargeIsRefusedByName) {
  NEEDS_SERVER();
  Large::mended = false;
  with_default_cache([](Stage& stage) {
    play(stage);
    stage.start_worker();
    const std::string much(kTooMuch, 'x');
    const auto start = stage.client().start(kLarge, stage.start_options(), much);
    ASSERT_FALSE(start);
    EXPECT_EQ(start.error().code, ErrorCode::kMessageTooLarge) << start.error().text();
    EXPECT_NE(start.error().message.find("input of StartWorkflowExecutionRequest has 20972"),
              std::string::npos)
        << start.error().text();

    const auto handle = stage.start(kLarge, std::string{"update"});
    EXPECT_EQ(handle.signal("set", much).error().code, ErrorCode::kMessageTooLarge);
    EXPECT_EQ(handle.update<std::string>("set", {}, much).error().code,
              ErrorCode::kMessageTooLarge);
    const auto asked = handle.query<std::string>("ask");
    ASSERT_FALSE(asked);
    EXPECT_NE(asked.error().text().find("[TMPRL1103]"), std::string::npos) << asked.error().text();
    Large::mended = true;
    EXPECT_TRUE(handle.update<std::string>("set", {}, std::string{"go"}));
    EXPECT_EQ(must(handle.result<std::string>()), "done");
  });
}

TEST(Sizes, AClientMayBeStricterThanTheServer) {
  NEEDS_SERVER();
  const Client client = connect({.max_payload_bytes = 1'000});
  const auto refused = client.start("Large", {.id = unique("strict"), .task_queue = "nobody"},
                                    std::string(2'000, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("the server takes 1000"), std::string::npos);
}

TEST(Sizes, WhatComesNearTheLimitIsToldInTheLog) {
  NEEDS_SERVER();
  const auto lines = std::make_shared<Lines>();
  with_default_cache([&](Stage& stage) {
    play(stage);
    stage.options.payload_warning_bytes = 1'000;
    stage.options.log = Logger{lines};
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kLarge, std::string{"near"}).result<std::string>()), "done");
    stage.worker().shutdown();
  });
  const std::string told = lines->text();
  EXPECT_NE(told.find("the input of activity echoes is 20"), std::string::npos) << told;
  EXPECT_NE(told.find("the result of activity echoes is 20"), std::string::npos) << told;
}

}  // namespace
}  // namespace tempora::behaviour

// Payloads that the server cannot read.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <peers.hpp>
#include <tempora/codec.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

ConnectionOptions secret(std::map<std::string, std::string> keys, std::string write_with) {
  ConnectionOptions options;
  options.codecs = {
      .codecs = {std::make_shared<AesGcmCodec>(std::move(keys), std::move(write_with))},
      .encode_failures = true};
  return options;
}

ConnectionOptions with_old_key() { return secret({{"old", std::string(32, 'o')}}, "old"); }
ConnectionOptions with_both_keys() {
  return secret({{"old", std::string(32, 'o')}, {"new", std::string(32, 'n')}}, "new");
}

const ActivityType<std::string, std::string> kWhispers{
    "whispers", {.start_to_close = 10s, .retry = RetryPolicy{.maximum_attempts = 1}}};

struct Whisper {
  std::vector<std::string> heard;

  Task<std::string> run(Context& ctx, std::string what) {
    ctx.upsert_memo("note", std::string{"xyzzy memo"});
    const std::string echo = co_await ctx.execute(kWhispers, what);
    co_await ctx.wait_until([this] { return !heard.empty(); });
    if (heard.front() == "xyzzy fail") throw ApplicationError{"xyzzy reason", "Failed"};
    co_return echo + heard.front();
  }
  Task<void> hear(Context&, std::string what) {
    heard.push_back(std::move(what));
    co_return;
  }
  Task<std::string> ask(Context&, std::string what) { co_return what + "!"; }
  std::string said() const { return heard.empty() ? "xyzzy nothing" : heard.front(); }
  // Below the limit as the workflow sees it, above as it is sent.
  std::string much() const { return std::string((std::size_t{2} << 20) - 70, 'x'); }
};

const Definition<Whisper> kWhisper{"Whisper",
                                   run(&Whisper::run),
                                   signal("hear", &Whisper::hear),
                                   update("ask", &Whisper::ask),
                                   query("said", &Whisper::said),
                                   query("much", &Whisper::much)};

void play(Stage& stage) {
  stage.runs(kWhisper).does(
      kWhispers, [](ActivityContext&, const std::string& text) { return text + " back "; });
}

// As somebody sees it who has no key.
std::string as_stored(const WorkflowHandle& handle) {
  return must(connect().handle(handle.id(), handle.started_run_id()).history())->DebugString();
}

TEST(Codecs, HideEverythingFromTheServerAndNothingFromUs) {
  NEEDS_SERVER();
  with_each_cache(
      [](Stage& stage) {
        play(stage);
        stage.start_worker();
        const auto handle = stage.start(kWhisper, std::string{"xyzzy"});
        EXPECT_EQ(must(handle.update<std::string>("ask", {}, std::string{"xyzzy why"})),
                  "xyzzy why!");
        EXPECT_EQ(must(handle.query<std::string>("said")), "xyzzy nothing");
        must(handle.signal("hear", std::string{"xyzzy go"}));
        EXPECT_EQ(must(handle.result<std::string>()), "xyzzy back xyzzy go");
        EXPECT_EQ(as_stored(handle).find("xyzzy"), std::string::npos);
        const auto memo = must(handle.describe()).memo;
        EXPECT_EQ(PayloadCodec<std::string>::decode(memo.at("note")), "xyzzy memo");
      },
      with_old_key());
}

TEST(Codecs, HideTheTextOfFailures) {
  NEEDS_SERVER();
  with_each_cache(
      [](Stage& stage) {
        play(stage);
        stage.start_worker();
        const auto handle = stage.start(kWhisper, std::string{"xyzzy"});
        must(handle.signal("hear", std::string{"xyzzy fail"}));
        const auto result = handle.result<std::string>();
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().message, "xyzzy reason");
        EXPECT_EQ(as_stored(handle).find("xyzzy"), std::string::npos);
      },
      with_old_key());
}

// A worker without the new key fails its tasks and loses nothing; one that has it goes on.
TEST(Codecs, AKeyThatIsMissingHoldsTheWorkflowUntilItIsThere) {
  NEEDS_SERVER();
  Stage writer{connect(with_both_keys()), 1'000};
  play(writer);
  Stage reader{connect(with_old_key()), 1'000};
  reader.options.task_queue = writer.queue();
  play(reader);
  reader.start_worker();
  const auto handle = writer.start(kWhisper, std::string{"xyzzy"});
  must(handle.signal("hear", std::string{"xyzzy go"}));
  writer.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED);
  reader.kill_worker();
  writer.start_worker();
  EXPECT_EQ(must(handle.result<std::string>()), "xyzzy back xyzzy go");
  writer.replay_all();
}

// Below the limit as the workflow sees it, above as it is sent.
TEST(Codecs, WhatGrowsTooLargeFailsTheActivityAndNotTheWorkflow) {
  NEEDS_SERVER();
  with_each_cache(
      [](Stage& stage) {
        stage.runs(kWhisper).does(kWhispers, [](ActivityContext&, const std::string&) {
          return std::string((std::size_t{2} << 20) - 70, 'x');
        });
        stage.start_worker();
        const auto handle = stage.start(kWhisper, std::string{"xyzzy"});
        const auto result = handle.result<std::string>();
        ASSERT_FALSE(result);
        ASSERT_NE(result.error().failure, nullptr) << result.error().text();
        const ApplicationError* error = find_application_error(*result.error().failure);
        ASSERT_NE(error, nullptr);
        EXPECT_EQ(error->type(), "PayloadsTooLarge") << error->message();
      },
      with_old_key());
}

TEST(Codecs, AnAnswerThatGrowsTooLargeFailsItsQueryAndNothingElse) {
  NEEDS_SERVER();
  with_each_cache(
      [](Stage& stage) {
        play(stage);
        stage.start_worker();
        const auto handle = stage.start(kWhisper, std::string{"xyzzy"});
        const auto refused = handle.query<std::string>("much");
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, ErrorCode::kQueryFailed) << refused.error().text();
        EXPECT_NE(refused.error().text().find("[TMPRL1103]"), std::string::npos)
            << refused.error().text();
        EXPECT_EQ(must(handle.query<std::string>("said")), "xyzzy nothing");
        must(handle.signal("hear", std::string{"xyzzy go"}));
        EXPECT_EQ(must(handle.result<std::string>()), "xyzzy back xyzzy go");
      },
      with_old_key());
}

const ActivityType<Void, Void> kPants{
    "pants",
    {.start_to_close = 20s, .heartbeat = 10s, .retry = RetryPolicy{.maximum_attempts = 1}}};

struct Runner {
  Task<void> run(Context& ctx) { co_await ctx.execute(kPants); }
};
const Definition<Runner> kRunner{"Runner", run(&Runner::run)};

// Details leave while the activity goes on: it hears that it is over, the workflow why.
TEST(Codecs, AHeartbeatThatGrowsTooLargeFailsTheActivity) {
  NEEDS_SERVER();
  with_each_cache(
      [](Stage& stage) {
        stage.runs(kRunner).does(kPants, [](ActivityContext& ctx, const Void&) {
          ctx.heartbeat(std::string((std::size_t{2} << 20) - 70, 'x'));
          ctx.wait_cancelled(20s);
          return Void{};
        });
        stage.start_worker();
        const auto result = stage.start(kRunner).result<void>();
        ASSERT_FALSE(result);
        ASSERT_NE(result.error().failure, nullptr) << result.error().text();
        const ApplicationError* error = find_application_error(*result.error().failure);
        ASSERT_NE(error, nullptr) << result.error().text();
        EXPECT_EQ(error->type(), "PayloadsTooLarge") << error->message();
      },
      with_old_key());
}

TEST(Codecs, ARequestThatIsTooLargeIsRefusedHere) {
  NEEDS_SERVER();
  const Client client = connect();
  StartOptions options{.id = unique("large"), .task_queue = "nobody"};
  const auto refused = client.start("Whisper", options, std::string(5'000'000, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kMessageTooLarge) << refused.error().text();
  EXPECT_FALSE(refused.error().in_doubt);
}

}  // namespace
}  // namespace tempora::behaviour

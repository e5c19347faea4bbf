// What stands around a `ScheduledWorkflow`, on the testing service and on the real server alike:
// its activities and operations, who sends it messages, and what must hold in the end. For tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <tempora/activity.hpp>
#include <tempora/async_activity.hpp>
#include <tempora/client.hpp>
#include <tempora/nexus_handler.hpp>
#include <utility>
#include <vector>

#include "testing/random_schedule.hpp"

namespace tempora::testing {

using ScheduleLog = std::vector<std::string>;

inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

inline void answer_elsewhere(const AsyncActivity& activity, int n) {
  const auto answered =
      n < 0 ? activity.fail(ApplicationError{"no", "Refused", true}) : activity.complete(2 * n);
  // Not found: this attempt has timed out, or its workflow has ended.
  if (!answered && answered.error().code != ErrorCode::kNotFound)
    throw ApplicationError{answered.error().text(), "NotAnswered", true};
}

// `add(type, function)` for each, without `kHang`.
template <class Add>
void add_scheduled_activities(const Client& client, const Add& add) {
  add(kDouble, [](ActivityContext&, const int& n) { return 2 * n; });
  add(kPersist, [](ActivityContext& context, const int& n) {
    if (context.info().attempt < n) throw ApplicationError{"not yet", "NotYet"};
    return n;
  });
  add(kElsewhere, [client](ActivityContext& context, const int& n) -> int {
    answer_elsewhere(client.async_activity(context.info().task_token), n);
    context.complete_later();
  });
  add(kRefuse, [](ActivityContext&, const bool& for_good) -> int {
    throw ApplicationError{"no", "Refused", for_good};
  });
}

template <class Add>
void add_scheduled_operations(const Add& add) {
  add(kTriple, [](NexusContext&, const int& n) { return 3 * n; });
  add(kLasting, [](NexusContext& context, const std::string& id) {
    ScheduleState waits;
    waits.steps = nlohmann::json::array();
    waits.signals_expected = 1;
    return context.start_workflow(scheduled_workflow(), {.id = id}, waits);
  });
}

class ScheduleDriver {
 public:
  using Message = RandomSchedule::Message;

  // `patience`: so long a query is asked again that found no worker.
  ScheduleDriver(const RandomSchedule& schedule, WorkflowHandle handle, Duration patience = {})
      : expected_(schedule.expected()),
        may_have_ended_(schedule.may_be_cancelled()),
        handle_(std::move(handle)),
        patience_(patience) {}

  void send(const Message& message) {
    switch (message.kind) {
      case Message::Kind::kSignal:
        EXPECT_TRUE(handle_.signal("note", message.value) || may_have_ended_);
        break;
      case Message::Kind::kUpdate: {
        const auto answer = handle_.update<int>("put", {}, message.value);
        EXPECT_TRUE(answer || may_have_ended_) << answer.error().text();
        if (answer) EXPECT_EQ(*answer, 2 * message.value);
        break;
      }
      case Message::Kind::kRefusedUpdate: {
        const auto answer = handle_.update<int>("put", {}, message.value);
        ASSERT_FALSE(answer);
        if (answer.error().code == ErrorCode::kUpdateFailed && !may_have_ended_)
          EXPECT_NE(answer.error().text().find("no negative numbers"), std::string::npos);
        break;
      }
      case Message::Kind::kCancel: {
        const auto asked = handle_.cancel();
        EXPECT_TRUE(asked) << asked.error().text();
        break;
      }
      case Message::Kind::kQuery: {
        const auto answer = ask();
        ASSERT_TRUE(answer) << answer.error().text();
        EXPECT_GE(answer->size(), size_) << "what was done is undone";
        EXPECT_TRUE(is_begun(*answer)) << nlohmann::json(*answer).dump();
        size_ = answer->size();
      }
    }
  }

  // All of it, or, if it was cancelled, what it did until then.
  void expect_end(const Outcome<ScheduleLog>& result) const {
    if (result) {
      EXPECT_EQ(*result, expected_);
      return;
    }
    EXPECT_TRUE(may_have_ended_) << result.error().text();
    EXPECT_EQ(result.error().code, ErrorCode::kWorkflowCanceled) << result.error().text();
    const auto log = ask();
    ASSERT_TRUE(log) << log.error().text();
    EXPECT_TRUE(is_begun(*log)) << nlohmann::json(*log).dump();
  }

  // What the workflow has said of itself is what others read.
  void expect_visible() const {
    const auto seen = handle_.describe();
    ASSERT_TRUE(seen) << seen.error().text();
    const auto memo = seen->memo.find("n");
    const int n = memo == seen->memo.end() ? -1 : PayloadCodec<int>::decode(memo->second);
    const int number = seen->search_attributes.get<int>("Number").value_or(-1);
    EXPECT_EQ("memo " + std::to_string(n) + " number " + std::to_string(number), expected_.back());
  }

 private:
  Outcome<ScheduleLog> ask() const {
    const auto until = std::chrono::steady_clock::now() + patience_;
    for (;;) {
      auto told = handle_.query<ScheduleLog>("log");
      if (told || std::chrono::steady_clock::now() >= until) return told;
    }
  }
  bool is_begun(const ScheduleLog& log) const {
    return log.size() <= expected_.size() && std::equal(log.begin(), log.end(), expected_.begin());
  }

  const ScheduleLog expected_;
  const bool may_have_ended_;
  const WorkflowHandle handle_;
  const Duration patience_;
  std::size_t size_ = 0;
};

}  // namespace tempora::testing

#include "history_fetch.hpp"

#include <gtest/gtest.h>

#include "fake_transport.hpp"

namespace tempora::pollers {
namespace {

namespace api = temporal::api::workflowservice::v1;
using temporal::api::history::v1::History;

void add_events(History& history, int from, int to) {
  for (int id = from; id <= to; ++id) history.add_events()->set_event_id(id);
}

std::shared_ptr<const CallEnvironment> environment_of(std::shared_ptr<Transport> transport) {
  return std::make_shared<CallEnvironment>(std::move(transport), "default");
}

TEST(History, KeepsTheTasksOwnTailThatIsNotStored) {
  PolledTask task;
  task.set_started_event_id(6);
  add_events(*task.mutable_history(), 5, 6);
  History fetched;
  add_events(fetched, 1, 4);
  splice_history(std::move(fetched), task);
  ASSERT_EQ(task.history().events_size(), 6);
  EXPECT_TRUE(check_events(task).has_value());
}

TEST(History, StopsAtTheEventThatStartedTheTask) {
  PolledTask task;
  task.set_started_event_id(3);
  add_events(*task.mutable_history(), 2, 3);
  History fetched;
  add_events(fetched, 1, 9);
  splice_history(std::move(fetched), task);
  EXPECT_EQ(task.history().events_size(), 3);
}

TEST(History, RefusesAGapAndAnEarlyEnd) {
  PolledTask gap;
  add_events(*gap.mutable_history(), 1, 2);
  add_events(*gap.mutable_history(), 4, 4);
  EXPECT_FALSE(check_events(gap).has_value());
  PolledTask early;
  early.set_started_event_id(5);
  add_events(*early.mutable_history(), 1, 4);
  EXPECT_FALSE(check_events(early).has_value());
}

TEST(History, FollowsPagesEvenEmptyOnesToTheEnd) {
  const auto transport = std::make_shared<FakeTransport>();
  PolledTask task;
  task.set_started_event_id(4);
  task.set_next_page_token("a");
  add_events(*task.mutable_history(), 1, 2);
  std::optional<bool> good;
  complete_history(environment_of(transport), "default", task, false,
                   [&](std::expected<void, HistoryError> done) { good = done.has_value(); });
  api::GetWorkflowExecutionHistoryResponse empty;
  empty.set_next_page_token("b");
  transport->take()->answer(empty);
  EXPECT_FALSE(good.has_value());
  api::GetWorkflowExecutionHistoryResponse last;
  add_events(*last.mutable_history(), 3, 4);
  transport->take()->answer(last);
  EXPECT_EQ(good, true);
  EXPECT_EQ(task.history().events_size(), 4);
}

TEST(History, FetchesAllOfItWithoutTheTasksToken) {
  const auto transport = std::make_shared<FakeTransport>();
  PolledTask task;
  task.set_started_event_id(3);
  task.set_next_page_token("of the task");
  std::optional<bool> good;
  complete_history(environment_of(transport), "default", task, true,
                   [&](std::expected<void, HistoryError> done) { good = done.has_value(); });
  const auto call = transport->take();
  api::GetWorkflowExecutionHistoryRequest request;
  request.ParseFromString(call->request);
  EXPECT_EQ(request.next_page_token(), "");
  api::GetWorkflowExecutionHistoryResponse all;
  add_events(*all.mutable_history(), 1, 3);
  call->answer(all);
  EXPECT_EQ(good, true);
}

TEST(History, GivesUpOnARefusal) {
  const auto transport = std::make_shared<FakeTransport>();
  PolledTask task;
  std::optional<bool> good;
  complete_history(environment_of(transport), "default", task, true,
                   [&](std::expected<void, HistoryError> done) { good = done.has_value(); });
  transport->take()->fail(grpc_code::kNotFound);
  EXPECT_EQ(good, false);
}

}  // namespace
}  // namespace tempora::pollers

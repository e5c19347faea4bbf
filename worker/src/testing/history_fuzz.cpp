// libFuzzer on histories from the network (`./dev fuzz history`): a true history is changed event
// by event, then replayed whole and fed to a run task by task. Nothing but an answer or a failed
// task may come of it.
#include <cstdint>
#include <random>

#include "engine/run.hpp"
#include "testing/fuzz_workflow.hpp"
#include "testing/history_builder.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

using namespace tempora;
using namespace tempora::testing;

History true_history() {
  HistoryBuilder builder;
  builder.started("workflow", std::string{"input"}).signaled("early").task_started();
  builder.task_completed().activity_scheduled("1", "activity").timer_started("1");
  builder.patch_marker("change", false).change_version_upserted({"change"});
  builder.child_initiated("child", "child");
  auto& signal = *builder.add(enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)
                      .mutable_signal_external_workflow_execution_initiated_event_attributes();
  signal.mutable_workflow_execution()->set_workflow_id("other");
  signal.set_signal_name("knock");
  builder.timer_fired(7, "1").activity_completed(6, std::string{"y"}).child_started(10, "child");
  builder.task_started().task_completed().child_completed(10, std::string{"z"}).cancel_requested();
  builder.task_started().task_completed().completed();
  return builder.history();
}

void number(History& history) {
  std::int64_t id = 0;
  for (auto& event : *history.mutable_events()) event.set_event_id(++id);
}

void feed(const History& history) {
  WorkflowRegistry registry;
  registry.add_fallback(fuzzed_workflow());
  engine::Run run{registry, {}};
  WorkflowTask task;
  task.mutable_workflow_execution()->set_workflow_id("workflow");
  task.mutable_workflow_execution()->set_run_id(kRunId);
  std::int64_t previous = 0;
  for (const auto& event : history.events()) {
    *task.mutable_history()->add_events() = event;
    if (event.event_type() != enums::EVENT_TYPE_WORKFLOW_TASK_STARTED) continue;
    task.set_started_event_id(event.event_id());
    task.set_previous_started_event_id(previous);
    if (run.process(task).kind != engine::TaskOutcome::Kind::kCompleted) return;
    run.completed({});
    previous = event.event_id();
    task.clear_history();
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
  std::mt19937 random{seed};
  History history;
  if (!history.ParseFromArray(data, static_cast<int>(size)) || history.events().empty() ||
      random() % 64 == 0) {
    history = true_history();
  }
  auto& events = *history.mutable_events();
  const auto pick = [&] {
    return static_cast<int>(random() % static_cast<unsigned>(events.size()));
  };
  switch (random() % 8) {
    case 0: events.DeleteSubrange(pick(), 1); break;
    case 1: *events.Add() = events.Get(pick()); break;
    case 2: events.SwapElements(pick(), pick()); break;
    case 3: {  // the bytes of one event
      std::string bytes = events.Get(pick()).SerializeAsString();
      const std::size_t old = bytes.size();
      bytes.resize(old + 64);
      bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), old, old + 64));
      HistoryEvent event;
      if (event.ParseFromString(bytes)) *events.Mutable(pick()) = event;
      break;
    }
    case 4:
      events.Mutable(pick())->set_event_type(static_cast<enums::EventType>(random() % 62));
      break;
    case 5:
      events.Mutable(pick())->set_event_id(static_cast<std::int64_t>(random() % 40) - 2);
      break;
    case 6: {
      const History other = true_history();
      *events.Add() = other.events(static_cast<int>(random() % other.events_size()));
      break;
    }
    default: events.Mutable(pick())->set_worker_may_ignore(random() % 2 == 0);
  }
  if (random() % 4 != 0) number(history);
  const std::string bytes = history.SerializeAsString();
  if (bytes.size() > most) return size;
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  History history;
  if (!history.ParseFromArray(data, static_cast<int>(size))) return 0;
  const auto replayed = fuzzed_replayer().replay(history);
  if (!replayed && replayed.error().message.empty()) std::abort();
  feed(history);
  return 0;
}

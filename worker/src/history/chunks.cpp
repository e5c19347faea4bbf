#include "history/chunks.hpp"

#include "machines/machine.hpp"

namespace tempora::engine {

std::vector<Chunk> cut(const Events& events, std::int64_t already_processed) {
  std::vector<Chunk> chunks;
  int begin = 0;
  while (begin < events.size() && events.Get(begin).event_id() <= already_processed) ++begin;
  for (int i = begin; i < events.size(); ++i) {
    if (events.Get(i).event_type() != enums::EVENT_TYPE_WORKFLOW_TASK_STARTED) continue;
    const bool last = i + 1 == events.size();
    const bool completed =
        !last && events.Get(i + 1).event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED;
    if (!last && !completed) continue;
    int consequences_end = i + 1;
    if (completed) {
      consequences_end = i + 2;
      while (consequences_end < events.size() &&
             is_command_event(events.Get(consequences_end).event_type())) {
        ++consequences_end;
      }
    }
    chunks.push_back({begin, i + 1, consequences_end, true, completed});
    begin = i + 1;
  }
  if (begin < events.size()) chunks.push_back({begin, events.size(), events.size(), false, false});
  return chunks;
}

}  // namespace tempora::engine

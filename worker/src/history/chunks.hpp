// Cuts a history into the parts that each woke the workflow once.
#pragma once

#include <temporal/api/history/v1/message.pb.h>

#include <cstdint>
#include <vector>

namespace tempora::engine {

using Events = google::protobuf::RepeatedPtrField<temporal::api::history::v1::HistoryEvent>;

// Events [begin, end). A chunk that woke the workflow ends with the WFT_STARTED of the task that
// did; what follows it, [end, consequences_end), is that task's WFT_COMPLETED and the command
// events it led to: they are read ahead while the chunk is worked on, and are the first events of
// the next chunk.
struct Chunk {
  int begin = 0;
  int end = 0;
  int consequences_end = 0;
  bool wakes = false;      // ends with a WFT_STARTED that did its work, or that is the task in hand
  bool completed = false;  // its task's completion is in the history
};

// Attempts that failed or timed out leave no trace: what woke them belongs to the next chunk.
// Events up to `already_processed` are skipped.
std::vector<Chunk> cut(const Events& events, std::int64_t already_processed);

}  // namespace tempora::engine

// Batch operations: one order to the server for many workflows, carried out at a rate.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tempora/client.hpp>
#include <variant>
#include <vector>

namespace tempora {

struct BatchTerminate {
  Payloads details;
};
struct BatchCancel {};
struct BatchDelete {};
struct BatchSignal {
  std::string name;
  Payloads input;  // `encode_all(arguments...)`
};
struct BatchReset {
  ResetPoint point = ResetPoint::kFirstTask;
  bool keep_signals = true;  // signals after the point are given to the new run
};
using BatchOperation =
    std::variant<BatchTerminate, BatchCancel, BatchDelete, BatchSignal, BatchReset>;

struct BatchTarget {
  std::string workflow_id;
  std::string run_id;  // empty: the latest
};

// Exactly one of `query` (visibility) and `workflows` (at most 10,000; the server's own limit is
// mostly lower) says which.
struct BatchRequest {
  std::string job_id;  // empty: made here
  std::string query;
  std::vector<BatchTarget> workflows;
  std::string reason;
  float max_per_second = 0;  // zero: the server's default; server 1.32 keeps to that in any case
  BatchOperation operation = BatchCancel{};
};

enum class BatchState { kUnknown, kRunning, kCompleted, kFailed };

struct BatchDescription {
  std::string job_id;
  BatchState state = BatchState::kUnknown;
  std::string reason;
  std::string identity;
  std::string query;
  std::int64_t total = 0;
  std::int64_t complete = 0;
  std::int64_t failed = 0;
};

class BatchClient {
 public:
  // The id of the job, which goes on in the server. The same `job_id` again is the same job.
  Outcome<std::string> start(const BatchRequest& request) const;
  Outcome<BatchDescription> describe(std::string_view job_id) const;
  // What was done stays done.
  Outcome<void> stop(std::string_view job_id, std::string_view reason) const;
  // All jobs that the server remembers: id and state only.
  Outcome<std::vector<BatchDescription>> list() const;

 private:
  friend class Client;
  std::shared_ptr<const detail::ClientCore> core_;
};

}  // namespace tempora

// An update.
//
// clang-format off
//   state      | on                           | to         | does
//   -----------+------------------------------+------------+--------------------------------------
//   Requested  | too large, or the validator  | Rejected   | a Rejection message, no command
//              | throws (live only)           |            |
//   Requested  | validator passes, or replay  | Accepted   | command + Acceptance, handler starts
//   Accepted   | UpdateAccepted (match)       | Accepted   | –
//   Accepted   | handler ends                 | Completed  | command + Response message
//   Completed  | UpdateCompleted (match)      | Final      | –
// clang-format on
#pragma once

#include <temporal/api/protocol/v1/message.pb.h>
#include <temporal/api/update/v1/message.pb.h>

#include <exception>

#include "machines/machine.hpp"

namespace tempora::engine {

class UpdateMachine final : public Machine {
 public:
  // `request` must live until the update was accepted or rejected.
  UpdateMachine(RunState& run, std::string id, std::string request_message_id,
                std::int64_t sequencing_event_id, const temporal::api::update::v1::Request& request,
                bool replayed);

  const temporal::api::update::v1::Request& request() const { return *request_; }
  const std::string& name() const { return request_->input().name(); }
  bool replayed() const { return replayed_; }
  const std::string& id() const { return id_; }

  // Throws if the acceptance, which repeats the request, would be too large for the server.
  void check_acceptance() const;
  // `handler`: the place that errors name for its commands.
  void accept(SourceLocation handler);
  void reject(const temporal::api::failure::v1::Failure& failure);
  void complete(const temporal::api::common::v1::Payload& result);
  void fail(const temporal::api::failure::v1::Failure& failure);

  std::string describe(enums::CommandType type) const override;
  bool matches(enums::CommandType type, const HistoryEvent& event) const override;
  void recorded(enums::CommandType type, const HistoryEvent& event) override;
  // Which event answers the next command of this update in the FIFO.
  enums::EventType next_event() const;

 private:
  void respond(temporal::api::update::v1::Response response);
  void queue_protocol_message(const char* suffix, const google::protobuf::Message& body);
  void add_message(const char* suffix, const google::protobuf::Message& body);

  const temporal::api::update::v1::Request* request_;
  std::string id_;
  std::string request_message_id_;
  std::int64_t sequencing_event_id_;
  bool replayed_;
  bool acceptance_recorded_ = false;
  SourceLocation where_{};
};

}  // namespace tempora::engine

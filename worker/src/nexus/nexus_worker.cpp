#include "nexus_worker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <stdexcept>

#include "converter/time.hpp"
#include "converter/too_large.hpp"
#include "interceptor/chain.hpp"
#include "metrics/measure.hpp"
#include "nexus_state.hpp"
#include "pollers/poller_hint.hpp"
#include "pollers/version.hpp"
#include "transport/codec_transport.hpp"
#include "wire.hpp"

namespace tempora::nexus {

namespace api = temporal::api::workflowservice::v1;
namespace wire = temporal::api::nexus::v1;
using pollers::Permit;

namespace {

// An answer is given up after this long if the server did not say how long it waits.
constexpr std::chrono::minutes kAnswerWithoutDeadline{1};
constexpr std::chrono::seconds kShortestAnswerTime{5};
constexpr const char* kTimeoutHeader = "request-timeout";

NexusInfo info_of(const NexusWorker::Task& task, const NexusWorkerOptions& options) {
  const wire::Request& request = task.request();
  NexusInfo info;
  info.namespace_ = options.namespace_;
  info.task_queue = options.task_queue;
  info.endpoint = request.endpoint();
  for (const auto& [name, text] : request.header()) {
    std::string lower = name;
    std::ranges::transform(lower, lower.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    info.headers.insert_or_assign(std::move(lower), text);
  }
  if (request.has_start_operation()) {
    info.service = request.start_operation().service();
    info.operation = request.start_operation().operation();
    info.request_id = request.start_operation().request_id();
  } else {
    const auto& cancel = request.cancel_operation();
    info.service = cancel.service();
    info.operation = cancel.operation();
    info.token = cancel.operation_token();
  }
  return info;
}

}  // namespace

void NexusRegistry::add(std::string service, std::string operation,
                        std::shared_ptr<const NexusHandler> handler) {
  if (service.empty() || operation.empty())
    throw std::logic_error{"a Nexus operation needs the names of its service and of itself"};
  const auto [position, inserted] =
      handlers_.emplace(std::pair{std::move(service), std::move(operation)}, std::move(handler));
  if (!inserted) {
    throw std::logic_error{fmt::format("Nexus operation {} of {} is registered twice",
                                       position->first.second, position->first.first)};
  }
}

const NexusHandler& NexusRegistry::find(const std::string& service,
                                        const std::string& operation) const {
  const auto found = handlers_.find({service, operation});
  if (found != handlers_.end()) return *found->second;
  throw NexusHandlerError{NexusErrorType::kNotFound,
                          fmt::format("operation {} of service {} is not registered on this worker",
                                      operation, service)};
}

struct NexusWorker::Running {
  std::unique_ptr<Task> task;
  Permit permit;
  Clock::time_point began = Clock::now();
  std::shared_ptr<detail::NexusTaskState> state;
  bool refused = false;  // an answer was too large to be sent; the one that says so is on its way

  bool cancels() const { return task->request().has_cancel_operation(); }
  bool takes_failures() const {
    return task->request().capabilities().temporal_failure_responses();
  }
};

struct NexusWorker::Answer {
  NexusHandler::Answer given;           // of a start
  std::optional<FailureProto> failed;   // the operation's end
  std::optional<FailureProto> refused;  // the request's
};

NexusWorker::NexusWorker(std::shared_ptr<const pollers::CallEnvironment> environment,
                         std::shared_ptr<const NexusRegistry> registry, Client client,
                         NexusWorkerOptions options)
    : environment_(std::move(environment)),
      registry_(std::move(registry)),
      client_(std::move(client)),
      options_(std::move(options)),
      slots_(std::make_shared<pollers::SlotPool>(
          options_.max_concurrent,
          metrics::slot_gauges(options_.metrics, options_.namespace_, options_.task_queue,
                               "NexusWorker"),
          pollers::gate_for(options_.resources, environment_->timers))),
      threads_(std::make_shared<pollers::ThreadPool>(options_.max_concurrent)) {}

void NexusWorker::start() {
  auto request = std::make_unique<api::PollNexusTaskQueueRequest>();
  request->set_namespace_(options_.namespace_);
  request->mutable_task_queue()->set_name(options_.task_queue);
  request->mutable_task_queue()->set_kind(temporal::api::enums::v1::TASK_QUEUE_KIND_NORMAL);
  request->set_identity(options_.identity);
  request->set_worker_instance_key(options_.worker_instance_key);
  pollers::write_version(options_.versioning, *request);
  pollers::PollGroup::Settings settings{
      .method = methods::kPollNexusTask,
      .request = std::move(request),
      .new_response = [] { return std::make_unique<Task>(); },
      .is_empty =
          [](const auto& answer) { return static_cast<const Task&>(answer).task_token().empty(); },
      .on_task =
          [weak = weak_from_this()](pollers::PollGroup::MessagePtr answer, Permit permit) {
            if (const auto self = weak.lock(); self != nullptr)
              self->accept(std::unique_ptr<Task>{static_cast<Task*>(answer.release())},
                           std::move(permit));
          },
      .on_answer =
          [metrics = options_.metrics, queue = options_.task_queue,
           space = options_.namespace_](bool empty) {
            const MetricTag tags[] = {{"namespace", space}, {"task_queue", queue}};
            if (empty) metrics->count("temporal_nexus_poll_no_task", 1, tags);
          },
      .on_open = metrics::poll_gauge(options_.metrics, options_.namespace_, options_.task_queue,
                                     "nexus_task"),
      .hint = pollers::scaling_hint<Task>(options_.most_polls),
      .most_polls = std::min(options_.most_polls, options_.max_concurrent),
      .rate = nullptr,
      .polls = std::clamp<std::size_t>(options_.polls, 1, options_.max_concurrent),
      .log = options_.log,
  };
  polls_ = std::make_shared<pollers::PollGroup>(environment_, slots_, std::move(settings));
  polls_->start();
}

void NexusWorker::accept(std::unique_ptr<Task> task, Permit permit) {
  if (abandoned_) return;
  auto running = std::make_shared<Running>();
  running->permit = std::move(permit);
  NexusInfo info = info_of(*task, options_);
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue}};
  options_.metrics->observe_seconds(
      "temporal_nexus_task_schedule_to_start_latency",
      metrics::seconds_between(from_proto(task->request().scheduled_time()), metrics::wall_clock()),
      tags);
  Logger log =
      options_.log.with("NexusService", info.service).with("NexusOperation", info.operation);
  running->state.reset(new detail::NexusTaskState{.info = std::move(info),
                                                  .start = task->request().start_operation(),
                                                  .client = client_,
                                                  .log = std::move(log)});
  running->task = std::move(task);
  {
    const std::lock_guard lock{mutex_};
    running_.emplace(running.get(), running);
  }
  read_deadline(running);
  threads_->post([self = shared_from_this(), running] { self->run(running); });
}

// The server gives the request up after so long, so the handler may, too.
void NexusWorker::read_deadline(const std::shared_ptr<Running>& running) {
  const auto header = running->state->info.headers.find(kTimeoutHeader);
  if (header == running->state->info.headers.end()) return;
  const auto timeout = read_timeout(header->second);
  if (!timeout) {
    running->state->log.warn("the header {} is no duration: {}", kTimeoutHeader, header->second);
    return;
  }
  running->state->deadline = running->began + *timeout;
  environment_->timers->after(*timeout, [weak = std::weak_ptr{running}] {
    if (const auto still = weak.lock(); still != nullptr) still->state->stop.request_stop();
  });
}

void NexusWorker::run(const std::shared_ptr<Running>& running) {
  if (abandoned_) return;
  const auto began = Clock::now();
  Answer answer = handle(*running);
  const NexusInfo& info = running->state->info;
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"nexus_service", info.service},
                            {"nexus_operation", info.operation}};
  options_.metrics->observe_seconds("temporal_nexus_task_execution_latency",
                                    metrics::seconds_since(began), tags);
  respond(running, std::move(answer));
}

NexusWorker::Answer NexusWorker::handle(Running& running) const {
  Answer answer;
  try {
    try {
      call_handler(running, answer);
      check_size(answer);
    } catch (const NexusFailed& failed) {
      if (running.cancels()) throw ApplicationError{failed.failure()};
      answer.failed = failed.failure().proto();
    } catch (const CanceledError& cancelled) {
      if (running.cancels()) throw;
      answer.failed = cancelled.proto();
    }
  } catch (const NexusHandlerError& error) {
    answer.refused = error.proto();
  } catch (const ApplicationError& error) {
    answer.refused =
        NexusHandlerError{NexusErrorType::kInternal, "the handler failed", !error.non_retryable()}
            .with_cause(error)
            .proto();
  } catch (...) {
    answer.refused = NexusHandlerError{NexusErrorType::kInternal, "the handler failed"}
                         .with_cause(Failure{to_proto(std::current_exception())})
                         .proto();
  }
  return answer;
}

void NexusWorker::call_handler(Running& running, Answer& answer) const {
  const NexusInfo& info = running.state->info;
  const wire::Request& request = running.task->request();
  if (!request.has_start_operation() && !request.has_cancel_operation())
    throw NexusHandlerError{NexusErrorType::kNotImplemented, "the kind of request is not known"};
  const NexusHandler& handler = registry_->find(info.service, info.operation);
  NexusContext context{running.state};
  tempora::detail::nexus_through(options_.interceptors, 0, context, [&](NexusContext& its) {
    if (!running.cancels()) {
      answer.given = handler.start(its, request.start_operation().payload());
    } else if (handler.cancel) {
      handler.cancel(its);
    } else {
      throw NexusHandlerError{NexusErrorType::kNotImplemented, "the operation cannot be cancelled"};
    }
  });
}

void NexusWorker::check_size(const Answer& answer) const {
  const std::size_t bytes = answer.given.result ? answer.given.result->ByteSizeLong() : 0;
  if (bytes <= options_.payload_limit_bytes) return;
  throw NexusHandlerError{NexusErrorType::kInternal,
                          too_large("the operation's result", bytes, options_.payload_limit_bytes),
                          /*retryable=*/false};
}

void NexusWorker::respond(const std::shared_ptr<Running>& running, Answer answer) {
  if (abandoned_) return;
  if (answer.refused) return refuse(running, std::move(*answer.refused));
  api::RespondNexusTaskCompletedRequest request;
  request.set_namespace_(options_.namespace_);
  request.set_identity(options_.identity);
  request.set_task_token(running->task->task_token());
  request.set_poller_group_id(running->task->poller_group_id());
  wire::Response& response = *request.mutable_response();
  const std::lock_guard lock{running->state->mutex};
  if (running->cancels()) {
    response.mutable_cancel_operation();
  } else if (answer.failed) {
    const std::string outcome = answer.failed->has_canceled_failure_info() ? "canceled" : "failed";
    count_failure(*running, "operation_" + outcome);
    write_failure(std::move(*answer.failed), running->takes_failures(),
                  *response.mutable_start_operation());
  } else if (answer.given.result) {
    auto& done = *response.mutable_start_operation()->mutable_sync_success();
    *done.mutable_payload() = std::move(*answer.given.result);
    for (const auto& link : running->state->links) *done.add_links() = link;
  } else {
    auto& going_on = *response.mutable_start_operation()->mutable_async_success();
    going_on.set_operation_token(answer.given.token);
    for (const auto& link : running->state->links) *going_on.add_links() = link;
  }
  send<api::RespondNexusTaskCompletedResponse>(running, methods::kNexusTaskCompleted,
                                               std::move(request));
}

void NexusWorker::refuse(const std::shared_ptr<Running>& running, FailureProto failure) {
  const auto& info = failure.nexus_handler_failure_info();
  count_failure(*running, "handler_error_" + info.type());
  running->state->log.warn("the handler failed: {}: {}{}", info.type(), failure.message(),
                           failure.has_cause() ? ": " + failure.cause().message() : "");
  api::RespondNexusTaskFailedRequest request;
  request.set_namespace_(options_.namespace_);
  request.set_identity(options_.identity);
  request.set_task_token(running->task->task_token());
  request.set_poller_group_id(running->task->poller_group_id());
  write_failure(std::move(failure), running->takes_failures(), request);
  send<api::RespondNexusTaskFailedResponse>(running, methods::kNexusTaskFailed, std::move(request));
}

template <class Response, class Request>
void NexusWorker::send(const std::shared_ptr<Running>& running, std::string_view method,
                       Request request) {
  const auto until = running->state->deadline.value_or(running->began + kAnswerWithoutDeadline);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
  const CallPlan plan{.budget = std::max<std::chrono::milliseconds>(left, kShortestAnswerTime),
                      .max_attempts = 0,
                      .retry_deadline_exceeded = true};
  pollers::call_retrying<Response>(
      *environment_, method, std::move(request), plan,
      [self = shared_from_this(), running](CallStatus status, const Response&) {
        const bool codec = is_refused_by_codec(status);
        if ((codec || is_message_too_large(status) || is_invalid_text(status)) &&
            !running->refused) {
          running->refused = true;  // a codec may do it the next time
          return self->refuse(
              running, NexusHandlerError{NexusErrorType::kInternal, status.message, codec}.proto());
        }
        if (status.code == grpc_code::kNotFound) {
          running->state->log.debug("answer not taken, the request is over: {}", status.message);
        } else if (!status.ok()) {
          running->state->log.warn("answer not taken, code {}: {}", status.code, status.message);
        }
        self->finish(running);
      });
}

void NexusWorker::count_failure(const Running& running, const std::string& reason) {
  ++failed_;
  const NexusInfo& info = running.state->info;
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"nexus_service", info.service},
                            {"nexus_operation", info.operation},
                            {"failure_reason", reason}};
  options_.metrics->count("temporal_nexus_task_execution_failed", 1, tags);
}

void NexusWorker::finish(const std::shared_ptr<Running>& running) {
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue}};
  options_.metrics->observe_seconds(
      "temporal_nexus_task_endtoend_latency",
      metrics::seconds_between(from_proto(running->task->request().scheduled_time()),
                               metrics::wall_clock()),
      tags);
  {
    const std::lock_guard lock{mutex_};
    running_.erase(running.get());
  }
  ++processed_;
  running->permit.release();
}

pollers::TaskNumbers NexusWorker::numbers() const {
  return {.slots = slots_->capacity(),
          .used = slots_->used(),
          .polls = polls_ == nullptr ? 0 : polls_->open(),
          .processed = processed_,
          .failed = failed_};
}

void NexusWorker::stop_polling() {
  if (polls_ != nullptr) polls_->stop();
}

void NexusWorker::cancel_polls() {
  stop_polling();
  if (polls_ != nullptr) polls_->cancel_open();
}

bool NexusWorker::wait_polls_closed(Clock::time_point until) {
  const bool closed = polls_ == nullptr || polls_->wait_closed(until);
  slots_->close();
  return closed;
}

void NexusWorker::ask_to_stop() {
  std::vector<std::shared_ptr<Running>> running;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& [key, weak] : running_) {
      if (auto alive = weak.lock()) running.push_back(std::move(alive));
    }
  }
  for (const auto& each : running) each->state->stop.request_stop();
}

void NexusWorker::abandon() {
  abandoned_ = true;
  cancel_polls();
  slots_->close();
  ask_to_stop();
}

}  // namespace tempora::nexus

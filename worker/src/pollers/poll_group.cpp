#include "poll_group.hpp"

#include <algorithm>
#include <utility>

namespace tempora::pollers {

namespace {

using Clock = TimerQueue::Clock;

constexpr std::chrono::milliseconds kFirstPause{200};
constexpr std::chrono::milliseconds kLongestPause{10'000};
// A poll that ran into its deadline after a while was simply an empty one.
constexpr std::chrono::seconds kLongEnoughForAnEmptyPoll{5};

}  // namespace

Clock::duration RateLimit::take() {
  const auto step =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{1.0 / per_second_});
  const Clock::time_point now = Clock::now();
  const std::lock_guard lock{mutex_};
  next_ = std::max(next_, now - std::chrono::seconds{1});
  next_ += step;
  return std::max(next_ - now, Clock::duration::zero());
}

PollGroup::PollGroup(std::shared_ptr<const CallEnvironment> environment,
                     std::shared_ptr<SlotPool> slots, Settings settings)
    : environment_(std::move(environment)),
      slots_(std::move(slots)),
      settings_(std::move(settings)) {}

void PollGroup::start() {
  {
    const std::lock_guard lock{mutex_};
    wanted_ = lanes_ = settings_.polls;
  }
  for (std::size_t i = 0; i < settings_.polls; ++i) next(std::make_shared<Lane>());
}

void PollGroup::stop() {
  const std::lock_guard lock{mutex_};
  stopping_ = true;
}

bool PollGroup::stopping() const {
  const std::lock_guard lock{mutex_};
  return stopping_;
}

void PollGroup::cancel_open() {
  std::vector<std::shared_ptr<PendingCall>> open;
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    cancelling_ = true;
    for (const auto& [id, call] : open_) {
      if (call != nullptr) open.push_back(call);
    }
  }
  for (const auto& call : open) call->cancel();
}

bool PollGroup::wait_closed(Clock::time_point until) {
  std::unique_lock lock{mutex_};
  return closed_.wait_until(lock, until, [this] { return open_.empty(); });
}

std::size_t PollGroup::open() const {
  const std::lock_guard lock{mutex_};
  return open_.size();
}

std::size_t PollGroup::wanted() const {
  const std::lock_guard lock{mutex_};
  return wanted_;
}

// Under the lock.
void PollGroup::opened() {
  if (settings_.on_open) settings_.on_open(open_.size());
}

void PollGroup::scale(int by) {
  std::size_t missing = 0;
  {
    const std::lock_guard lock{mutex_};
    const auto most = static_cast<std::ptrdiff_t>(std::max(settings_.most_polls, settings_.polls));
    wanted_ = static_cast<std::size_t>(
        std::clamp<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(wanted_) + by, 1, most));
    missing = wanted_ > lanes_ ? wanted_ - lanes_ : 0;
    lanes_ += missing;
  }
  for (; missing > 0; --missing) next(std::make_shared<Lane>());
}

bool PollGroup::one_too_many() {
  const std::lock_guard lock{mutex_};
  if (lanes_ <= wanted_) return false;
  --lanes_;
  return true;
}

void PollGroup::next(std::shared_ptr<Lane> lane) {
  if (stopping() || one_too_many()) return;
  const auto reserve = [self = shared_from_this(), lane] {
    if (self->stopping()) return;
    self->slots_->reserve([self, lane](Permit permit) { self->poll(lane, std::move(permit)); });
  };
  if (settings_.rate == nullptr) return reserve();
  const Clock::duration wait = settings_.rate->take();
  if (wait == Clock::duration::zero()) return reserve();
  environment_->timers->after(wait, reserve);
}

void PollGroup::poll(std::shared_ptr<Lane> lane, Permit permit) {
  std::size_t id = 0;
  {
    const std::lock_guard lock{mutex_};
    if (stopping_) return;
    id = next_id_++;
    open_.emplace(id, nullptr);
    opened();
  }
  struct Attempt {
    MessagePtr response;
    Permit permit;
  };
  const auto attempt = std::make_shared<Attempt>(settings_.new_response(), std::move(permit));
  CallOptions options{.metadata = environment_->metadata};
  options.deadline = settings_.deadline;
  const Clock::time_point began = Clock::now();
  std::shared_ptr<PendingCall> call = environment_->caller.transport()->start(
      settings_.method, *settings_.request, attempt->response.get(), std::move(options),
      [self = shared_from_this(), lane = std::move(lane), id, attempt, began](CallStatus status) {
        self->answered(lane, id, std::move(status), std::move(attempt->response),
                       std::move(attempt->permit), began);
      });
  bool cancel = false;
  {
    const std::lock_guard lock{mutex_};
    if (const auto open = open_.find(id); open != open_.end()) {
      cancel = cancelling_;  // `cancel_open` came before the call could be entered
      open->second = call;
    }
  }
  if (cancel) call->cancel();
}

void PollGroup::answered(const std::shared_ptr<Lane>& lane, std::size_t id, CallStatus status,
                         MessagePtr response, Permit permit, Clock::time_point began) {
  if (status.ok()) {
    lane->failures = 0;
    const bool empty = settings_.is_empty(*response);
    if (settings_.on_answer) settings_.on_answer(empty);
    if (settings_.hint) {
      const std::optional<int> by = settings_.hint(*response);
      if (by.has_value()) hinted_ = true;
      // A poll that brought nothing, from a server that would have said if it wanted more of them.
      if (by.has_value() || (empty && hinted_)) scale(by.value_or(-1));
    }
    // The task is handed over before the poll counts as closed: a shutdown that
    // waits for open polls sees its slot used.
    if (empty) {
      permit.release();
    } else {
      settings_.on_task(std::move(response), std::move(permit));
    }
  } else {
    permit.release();
  }
  {
    const std::lock_guard lock{mutex_};
    open_.erase(id);
    opened();
    if (open_.empty()) closed_.notify_all();
    if (stopping_) return;
  }
  if (status.ok()) {
    next(lane);
  } else {
    back_off(lane, status, began);
  }
}

void PollGroup::back_off(const std::shared_ptr<Lane>& lane, const CallStatus& status,
                         Clock::time_point began) {
  if (status.code == grpc_code::kDeadlineExceeded &&
      Clock::now() - began > kLongEnoughForAnEmptyPoll) {
    lane->failures = 0;
    return next(lane);
  }
  if (hinted_) {
    const bool throttled = status.code == grpc_code::kResourceExhausted;
    scale(throttled ? -static_cast<int>(wanted() / 2) : -1);
  }
  const std::size_t doublings = std::min<std::size_t>(lane->failures++, 6);
  const bool hopeless = !is_retryable(status) && status.code != grpc_code::kDeadlineExceeded;
  const auto pause =
      hopeless ? kLongestPause : std::min(kFirstPause * (1 << doublings), kLongestPause);
  if (hopeless) {
    settings_.log.error("poll refused with code {}: {}; trying again in {} ms", status.code,
                        status.message, pause.count());
  } else if (lane->failures == 1) {
    settings_.log.debug("poll failed with code {}: {}", status.code, status.message);
  } else if (lane->failures == 4) {
    settings_.log.warn("polls keep failing with code {}: {}; trying again for ever", status.code,
                       status.message);
  }
  const auto wait =
      std::chrono::duration_cast<Clock::duration>(pause * environment_->caller.clock().jitter());
  environment_->timers->after(wait, [self = shared_from_this(), lane] { self->next(lane); });
}

}  // namespace tempora::pollers

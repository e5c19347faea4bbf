// What the server says about the number of polls, in its answers to them.
#pragma once

#include <google/protobuf/message.h>

#include <cstddef>
#include <functional>
#include <optional>

namespace tempora::pollers {

// For `PollGroup::Settings::hint`; null if the number of polls is fixed.
template <class Answer>
std::function<std::optional<int>(const google::protobuf::Message&)> scaling_hint(std::size_t most) {
  if (most == 0) return nullptr;
  return [](const google::protobuf::Message& message) -> std::optional<int> {
    const auto& answer = static_cast<const Answer&>(message);
    if (!answer.has_poller_scaling_decision()) return std::nullopt;
    return answer.poller_scaling_decision().poll_request_delta_suggestion();
  };
}

}  // namespace tempora::pollers

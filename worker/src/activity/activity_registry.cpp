#include "activity_registry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tempora::activity {

void ActivityRegistry::add(std::string type, ActivityFunction function) {
  const auto [position, inserted] = functions_.emplace(std::move(type), std::move(function));
  if (!inserted)
    throw std::logic_error{fmt::format("activity type {} is registered twice", position->first)};
}

void ActivityRegistry::add_fallback(ActivityFunction function) {
  if (fallback_) throw std::logic_error{"a fallback for activities is registered twice"};
  fallback_ = std::move(function);
}

const ActivityFunction* ActivityRegistry::find(const std::string& type) const {
  const auto found = functions_.find(type);
  if (found != functions_.end()) return &found->second;
  return fallback_ ? &fallback_ : nullptr;
}

std::vector<std::string> ActivityRegistry::types() const {
  std::vector<std::string> names;
  names.reserve(functions_.size());
  for (const auto& [name, function] : functions_) names.push_back(name);
  std::ranges::sort(names);
  return names;
}

}  // namespace tempora::activity

#include <addrflow/v1/answers.hpp>
#include <algorithm>

namespace addrflow::v1 {
namespace {

void show_prefix(LifecycleResult& result, const BindingView& binding) {
  result.set_prefix(binding.prefix());
  if (binding.has_netbox_prefix_id()) result.set_netbox_prefix_id(binding.netbox_prefix_id());
}

void show(LifecycleResult& result, const BindingView& binding) {
  result.set_address(binding.address());
  result.set_state(binding.state());
  if (binding.has_allocated_at()) result.set_allocated_at(binding.allocated_at());
  if (binding.has_activated_at()) result.set_activated_at(binding.activated_at());
  if (binding.has_suspended_at()) result.set_suspended_at(binding.suspended_at());
  if (binding.has_revoked_at()) result.set_revoked_at(binding.revoked_at());
  if (binding.has_netbox_ip_id()) result.set_netbox_ip_id(binding.netbox_ip_id());
  *result.mutable_metadata() = binding.metadata();
}

}  // namespace

void show_bindings(LifecycleResult& result, const ServiceView& view,
                   std::span<const std::string> families) {
  const BindingView* first = nullptr;
  for (const BindingView& binding : view.bindings()) {
    if (!families.empty() && std::ranges::find(families, binding.family()) == families.end())
      continue;
    if (binding.family() != "ipv4") show_prefix(result, binding);
    if (first == nullptr || binding.family() == "ipv4") first = &binding;
  }
  if (first != nullptr) show(result, *first);
}

}  // namespace addrflow::v1

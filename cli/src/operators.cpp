// What operators look through and say: lines and effects by what ails them, the steps of a running
// workflow, and pause, resume, retry, skip, give up.

#include "commands.hpp"
#include "parts.hpp"
#include "table.hpp"
#include "temporal.hpp"

#include <fmt/format.h>
#include <addrflow/catalog/payload.hpp>
#include <addrflow/compose/compose.hpp>
#include <addrflow/ledger/desk.hpp>
#include <addrflow/v1/json.hpp>
#include <addrflow/workflows/names.hpp>

#include <charconv>
#include <cstdio>
#include <random>

namespace addrflow::cli {
namespace {

std::int64_t seconds_of(const std::string& field, const std::string& text) {
  if (text.empty()) {
    return 0;
  }
  auto duration = parse_duration(text);
  if (!duration) {
    throw std::invalid_argument(field + ": " + duration.error());
  }
  return std::chrono::duration_cast<std::chrono::seconds>(*duration).count();
}

std::int64_t number_of(const std::string& field, const std::string& text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || rest != end || number < 0) {
    throw std::invalid_argument(fmt::format("{}: must be the id of an effect: '{}'", field, text));
  }
  return number;
}

std::string line_of(const v1::ServiceRef& service) {
  return service.service() == "internet"
             ? service.subscriber_id()
             : fmt::format("{}/{}", service.subscriber_id(), service.service());
}

Exit show_json(const google::protobuf::Message& message) {
  fmt::print("{}\n", v1::to_json(message).dump(2));
  return Exit::kDone;
}

std::vector<std::string> row_of(const v1::EffectDetail& detail) {
  const v1::EffectView& effect = detail.effect();
  return {std::to_string(effect.effect_id()),
          detail.service().tenant_id(),
          line_of(detail.service()),
          effect.system() + " " + effect.action(),
          effect.status(),
          std::to_string(effect.attempts()),
          effect.code(),
          detail.current() ? "" : "older",
          detail.planned_at(),
          effect.detail()};
}

enum class Meant { kComposition, kAnyRun };

// The workflow that is meant: by its id, or the line's that runs, else its last one.
tempora::Outcome<tempora::WorkflowHandle> find_workflow(const Shell& shell,
                                                        const WorkflowArguments& arguments,
                                                        const tempora::Client& client,
                                                        Meant meant) {
  if (!arguments.id.empty()) {
    return client.handle(arguments.id);
  }
  if (arguments.target.tenant.empty() || arguments.target.subscriber.empty()) {
    throw std::invalid_argument("name the workflow's id, or --tenant and --subscriber");
  }
  v1::ServiceRef service;
  service.set_tenant_id(arguments.target.tenant);
  service.set_subscriber_id(arguments.target.subscriber);
  service.set_service(arguments.target.service);
  ledger::Desk desk(ledger_settings(shell.settings));
  const auto known =
      meant == Meant::kAnyRun ? desk.last_run(service) : desk.last_composition(service);
  if (!known) {
    const std::string changes = meant == Meant::kAnyRun ? ", and no change," : "";
    throw ledger::LedgerError{
        domain::ErrorCode::kNotFound,
        "no provision, deprovision, suspend or reactivate" + changes + " of this line is known"};
  }
  return client.handle(known->workflow_id, known->run_id);
}

Exit show_progress(const Output& output, const std::string& id,
                   const v1::CompositionProgress& progress) {
  if (output.json) {
    return show_json(progress);
  }
  fmt::print("{} {}: {}\n", progress.kind(), id, progress.state());
  if (progress.has_paused_at()) {
    fmt::print("paused by {} at {}: {}\n", progress.paused_by(), progress.paused_at(),
               progress.paused_reason());
  }
  if (!progress.given_up_by().empty()) {
    fmt::print("given up by {}: {}\n", progress.given_up_by(), progress.given_up_reason());
  }
  Table table{
      {"step", "state", "attempts", "started", "ended", "optional", "message", "last error"}, {}};
  for (const v1::StepProgress& step : progress.steps()) {
    table.rows.push_back({step.name(), step.status(), std::to_string(step.attempts()),
                          step.started_at(), step.ended_at(),
                          step.skippable()  ? "yes, may be skipped"
                          : step.optional() ? "yes"
                                            : "",
                          step.message(), step.last_error()});
  }
  fmt::print("{}", table.text(wants_bold()));
  return Exit::kDone;
}

// Asks the workflow that is meant, and shows the progress that it answers with.
template <class Ask>
Exit with_workflow(const Shell& shell, const WorkflowArguments& arguments, Meant meant,
                   const Ask& ask) {
  auto client = connect_temporal();
  if (!client) {
    return report(shell.output, client.error());
  }
  return guarded(shell, [&] {
    const auto handle = find_workflow(shell, arguments, *client, meant);
    if (!handle) {
      return report(shell.output, handle.error());
    }
    const tempora::Outcome<v1::CompositionProgress> progress = ask(*handle);
    return progress ? show_progress(shell.output, handle->id(), *progress)
                    : report(shell.output, progress.error());
  });
}

std::string fresh_id() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

}  // namespace

Exit run_list(const Shell& shell, const ListArguments& arguments) {
  return guarded(shell, [&] {
    v1::ListRequest request;
    request.set_tenant_id(arguments.tenant);
    for (const std::string& state : arguments.states) {
      request.add_states(state);
    }
    request.set_pool(arguments.pool);
    request.set_family(arguments.family);
    request.set_older_than_s(seconds_of("older-than", arguments.older_than));
    request.set_unconfirmed(arguments.unconfirmed);
    request.set_limit(arguments.limit);
    request.set_after(arguments.after);
    const v1::ListReply reply = ledger::Desk(ledger_settings(shell.settings)).list(request);
    if (shell.output.json) {
      return show_json(reply);
    }
    Table table{{"tenant", "subscriber", "family", "state", "for", "address", "pool", "NAS",
                 "unconfirmed", "code", "under way"},
                {}};
    for (const v1::ListEntry& entry : reply.entries()) {
      table.rows.push_back({entry.service().tenant_id(), line_of(entry.service()), entry.family(),
                            entry.state(), age_text(entry.age_s()), entry.address(), entry.pool(),
                            entry.nas_ip(),
                            entry.unconfirmed() == 0 ? "" : std::to_string(entry.unconfirmed()),
                            entry.last_code(), entry.operation()});
    }
    fmt::print("{}", table.text(wants_bold()));
    if (!reply.next().empty()) {
      fmt::print(stderr, "more: --after {}\n", reply.next());
    }
    return Exit::kDone;
  });
}

Exit run_effect_list(const Shell& shell, const ListArguments& arguments) {
  return guarded(shell, [&] {
    v1::EffectListRequest request;
    request.set_tenant_id(arguments.tenant);
    request.set_subscriber_id(arguments.subscriber);
    request.set_system(arguments.system);
    for (const std::string& status : arguments.states) {
      request.add_statuses(status);
    }
    request.set_older_than_s(seconds_of("older-than", arguments.older_than));
    request.set_limit(arguments.limit);
    if (!arguments.after.empty()) request.set_after(number_of("after", arguments.after));
    const v1::EffectListReply reply =
        ledger::Desk(ledger_settings(shell.settings)).effects(request);
    if (shell.output.json) {
      return show_json(reply);
    }
    Table table{{"id", "tenant", "subscriber", "effect", "status", "attempts", "code", "",
                 "planned", "detail"},
                {}};
    for (const v1::EffectDetail& detail : reply.effects()) {
      table.rows.push_back(row_of(detail));
    }
    fmt::print("{}", table.text(wants_bold()));
    if (reply.next() != 0) {
      fmt::print(stderr, "more: --after {}\n", reply.next());
    }
    return Exit::kDone;
  });
}

Exit run_effect_show(const Shell& shell, std::int64_t id) {
  return guarded(shell, [&] {
    return shell.output.done(ledger::Desk(ledger_settings(shell.settings)).effect(id));
  });
}

Exit run_effect_abandon(const Shell& shell, std::int64_t id, const Target& target) {
  return guarded(shell, [&] {
    const v1::EffectDetail detail = ledger::Desk(ledger_settings(shell.settings))
                                        .abandon_effect(id, target.actor, target.reason);
    // The line's workflow may be waiting for it. It learns of it sooner or later in any case.
    if (auto client = connect_temporal()) {
      compose::ClientWaker(*client).wake(detail.service());
    }
    return shell.output.done(detail);
  });
}

Exit run_progress(const Shell& shell, const WorkflowArguments& arguments) {
  const auto ask = [](const tempora::WorkflowHandle& handle) {
    return handle.query<v1::CompositionProgress>(workflows::kProgress);
  };
  return with_workflow(shell, arguments, Meant::kAnyRun, ask);
}

Exit run_workflow(const Shell& shell, const std::string& command,
                  const WorkflowArguments& arguments) {
  const auto tell = [&](const tempora::WorkflowHandle& handle) {
    v1::OperatorRequest request;
    request.set_actor(arguments.target.actor);
    request.set_reason(arguments.target.reason);
    request.set_step(arguments.step);
    tempora::UpdateOptions options;
    options.id = fmt::format("{}:{}", command, fresh_id());
    return handle.update<v1::CompositionProgress>(command, options, request);
  };
  return with_workflow(shell, arguments, Meant::kComposition, tell);
}

}  // namespace addrflow::cli

// The table that names a workflow's members for the wire. Handlers are checked at compile time:
// they take the context by reference and everything else by value, since a coroutine outlives its
// caller's objects.
#pragma once

#include <any>
#include <concepts>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tempora/payload.hpp>
#include <tempora/versioning.hpp>
#include <tempora/workflow.hpp>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tempora {

// A workflow without its types: what the engine runs. Immutable after construction, shared by all
// runs.
struct WorkflowDefinition {
  struct Signal {
    std::string name;
    std::string description;
    // Decodes at once (throws `PayloadError`) and returns the handler's coroutine.
    std::function<Task<void>(void*, Context&, const Payloads&)> start;
  };
  struct Query {
    std::string name;
    std::string description;
    std::function<Payload(const void*, const Payloads&)> answer;
  };
  struct Update {
    std::string name;
    std::string description;
    std::function<void(const void*, const Payloads&)>
        validate;  // throws to reject; decodes in any case
    std::function<Task<Payload>(void*, Context&, const Payloads&)> start;
    SourceLocation where{};  // of its entry in the definition, for errors
  };

  std::string name;
  std::function<std::shared_ptr<void>(Context&, const Payloads&)> create;
  std::function<Task<Payload>(void*, Context&, const Payloads&)> start;
  std::size_t object_bytes = 0;                        // of what `create` makes
  std::function<std::size_t(const void*)> held_bytes;  // beyond these; empty: unknown
  std::map<std::string, Signal, std::less<>> signals;
  std::map<std::string, Query, std::less<>> queries;
  std::map<std::string, Update, std::less<>> updates;
  // Take what has no handler of its own.
  std::function<Task<void>(void*, Context&, const std::string&, const Payloads&)> dynamic_signal;
  std::function<Payload(const void*, const std::string&, const Payloads&)> dynamic_query;
  struct DynamicUpdate {
    std::function<void(const void*, const std::string&, const Payloads&)> validate;
    std::function<Task<Payload>(void*, Context&, const std::string&, const Payloads&)> start;
    SourceLocation where{};
  };
  DynamicUpdate dynamic_update;  // with `start`, or there is none
  VersioningBehavior versioning = VersioningBehavior::kUnspecified;  // the worker's default
};

namespace detail {

template <class M>
struct Member;

template <class R, class C, class... A>
struct MemberOf {
  using Class = C;
  using Result = R;
  static constexpr bool kTakesContext = false;
  static_assert((!std::is_reference_v<A> && ...), "take Context& and nothing else by reference");
  using Arguments = std::tuple<A...>;
};
template <class R, class C, class... A>
struct MemberOf<R, C, Context&, A...> {
  using Class = C;
  using Result = R;
  static constexpr bool kTakesContext = true;
  static_assert((!std::is_reference_v<A> && ...), "take Context& and nothing else by reference");
  using Arguments = std::tuple<A...>;
};
template <class R, class C, class... A>
struct Member<R (C::*)(A...)> : MemberOf<R, C, A...> {};
template <class R, class C, class... A>
struct Member<R (C::*)(A...) const> : MemberOf<R, C, A...> {};
template <class R, class C, class... A>
struct Member<R (C::*)(A...) noexcept> : MemberOf<R, C, A...> {};
template <class R, class C, class... A>
struct Member<R (C::*)(A...) const noexcept> : MemberOf<R, C, A...> {};

template <class M>
inline constexpr bool kIsConstMember = false;
template <class R, class C, class... A>
inline constexpr bool kIsConstMember<R (C::*)(A...) const> = true;
template <class R, class C, class... A>
inline constexpr bool kIsConstMember<R (C::*)(A...) const noexcept> = true;

template <class T>
inline constexpr bool kIsTask = false;
template <class T>
inline constexpr bool kIsTask<Task<T>> = true;

// What the workflow of class `W` returns.
template <class W>
struct RunOf {
  using Result = typename Member<decltype(&W::run)>::Result::value_type;
};

template <class Tuple, std::size_t... I>
Tuple decode_tuple(const Payloads& payloads, std::index_sequence<I...>) {
  return Tuple{decode_argument<std::tuple_element_t<I, Tuple>>(payloads, static_cast<int>(I))...};
}
// A handler that takes nothing but `Payloads` gets its arguments as they are.
template <class Tuple>
Tuple decode_arguments(const Payloads& payloads) {
  if constexpr (std::is_same_v<Tuple, std::tuple<Payloads>>) {
    return Tuple{payloads};
  } else {
    return decode_tuple<Tuple>(payloads, std::make_index_sequence<std::tuple_size_v<Tuple>>{});
  }
}

template <class M, class W>
decltype(auto) call(M member, W* self, Context* context, typename Member<M>::Arguments arguments) {
  return std::apply(
      [&](auto&&... argument) -> decltype(auto) {
        if constexpr (Member<M>::kTakesContext) {
          return (self->*member)(*context, std::move(argument)...);
        } else {
          return (self->*member)(std::move(argument)...);
        }
      },
      std::move(arguments));
}

template <class W, class M>
Task<Payload> call_for_payload(W* self, Context* context, M member,
                               typename Member<M>::Arguments arguments) {
  using Result = typename Member<M>::Result;
  if constexpr (kIsTask<Result>) {
    using Value = typename Result::value_type;
    Result task = call(member, self, context, std::move(arguments));
    if constexpr (std::is_void_v<Value>) {
      co_await task;
      co_return null_payload();
    } else {
      co_return PayloadCodec<Value>::encode(co_await task);
    }
  } else if constexpr (std::is_void_v<Result>) {
    call(member, self, context, std::move(arguments));
    co_return null_payload();
  } else {
    co_return PayloadCodec<Result>::encode(call(member, self, context, std::move(arguments)));
  }
}

template <class W, class M>
Task<void> call_for_nothing(W* self, Context* context, M member,
                            typename Member<M>::Arguments arguments) {
  if constexpr (kIsTask<typename Member<M>::Result>) {
    auto task = call(member, self, context, std::move(arguments));
    co_await task;
  } else {
    static_cast<void>(call(member, self, context, std::move(arguments)));
    co_return;
  }
}

template <class M>
struct RunPart {
  M member;
};
template <class M>
struct SignalPart {
  std::string name;
  M member;
  std::string description;
};
template <class M>
struct QueryPart {
  std::string name;
  M member;
  std::string description;
};
template <class M, class V>
struct UpdatePart {
  std::string name;
  M member;
  V validator;
  std::string description;
  SourceLocation where;
};
template <class M>
struct DynamicSignalPart {
  M member;
};
template <class M>
struct DynamicQueryPart {
  M member;
};
template <class M, class V>
struct DynamicUpdatePart {
  M member;
  V validator;
  SourceLocation where;
};
template <class M>
struct HeldBytesPart {
  M member;
};
struct VersioningPart {
  VersioningBehavior behavior;
};

}  // namespace detail

// The parts of a definition. Names are what clients of any language say.
template <class M>
detail::RunPart<M> run(M member) {
  return {member};
}
template <class M>
detail::SignalPart<M> signal(std::string name, M member, std::string description = {}) {
  return {std::move(name), member, std::move(description)};
}
template <class M>
detail::QueryPart<M> query(std::string name, M member, std::string description = {}) {
  return {std::move(name), member, std::move(description)};
}
template <class M>
detail::UpdatePart<M, std::nullptr_t> update(std::string name, M member,
                                             SourceLocation where = SourceLocation::current()) {
  return {std::move(name), member, nullptr, {}, where};
}
// `validator` takes what the update takes, as `const In&` or by value, is `const`, and throws to
// reject.
template <class M, class V>
  requires std::is_member_function_pointer_v<V>
detail::UpdatePart<M, V> update(std::string name, M member, V validator,
                                std::string description = {},
                                SourceLocation where = SourceLocation::current()) {
  return {std::move(name), member, validator, std::move(description), where};
}
// `member(Context&, std::string name, Payloads arguments)`.
template <class M>
detail::DynamicSignalPart<M> signal_dynamic(M member) {
  return {member};
}
// `member(std::string name, Payloads arguments) const`, for queries that have no handler of their
// own; it throws for a name that it does not know. A `RawPayload` is answered as it is.
template <class M>
detail::DynamicQueryPart<M> query_dynamic(M member) {
  return {member};
}
// `member(Context&, std::string name, Payloads arguments)`, for updates that have no handler of
// their own. Names can only be refused by a validator: without one every update is accepted.
template <class M>
detail::DynamicUpdatePart<M, std::nullptr_t> update_dynamic(
    M member, SourceLocation where = SourceLocation::current()) {
  return {member, nullptr, where};
}
// `validator(const std::string& name, const Payloads& arguments) const` throws to reject.
template <class M, class V>
  requires std::is_member_function_pointer_v<V>
detail::DynamicUpdatePart<M, V> update_dynamic(M member, V validator,
                                               SourceLocation where = SourceLocation::current()) {
  return {member, validator, where};
}
// `member() const` returns how many bytes the object holds beyond its own size: in strings, lists
// and the like. Asked after each task, for `WorkerOptions::max_cached_workflow_bytes`; it takes no
// longer than a query should. What it throws fails the workflow task.
template <class M>
detail::HeldBytesPart<M> held_bytes(M member) {
  return {member};
}
// What becomes of this type's runs when a newer version comes, instead of the worker's
// `WorkerVersioning::behavior`. Without a meaning for workers that have no version.
inline detail::VersioningPart versioning(VersioningBehavior behavior) { return {behavior}; }

template <class W>
class Definition {
 public:
  template <class... Parts>
  explicit Definition(std::string name, Parts... parts)
      : erased_(std::make_shared<WorkflowDefinition>()) {
    erased_->name = std::move(name);
    (add(std::move(parts)), ...);
    static_assert((kIsRun<Parts> + ... + 0) == 1, "a definition has exactly one run(&W::run)");
  }

  const std::string& name() const { return erased_->name; }
  const std::shared_ptr<const WorkflowDefinition> erased() const { return erased_; }
  // The name under which a member was registered; empty if it was not.
  template <class M>
  std::string_view name_of(M member) const {
    for (const auto& [known, name] : members_) {
      const M* candidate = std::any_cast<M>(&known);
      if (candidate && *candidate == member) return name;
    }
    return {};
  }

 private:
  template <class P>
  static constexpr int kIsRun = 0;
  template <class M>
  static constexpr int kIsRun<detail::RunPart<M>> = 1;

  template <class M>
  static constexpr void check_query() {
    static_assert(detail::kIsConstMember<M>, "a query is const");
    static_assert(!detail::Member<M>::kTakesContext,
                  "a query has no context: it can command nothing");
  }
  template <class M>
  static Payload encode_answer(M member, const void* self,
                               typename detail::Member<M>::Arguments arguments) {
    using Result = std::remove_cvref_t<typename detail::Member<M>::Result>;
    return PayloadCodec<Result>::encode(
        detail::call(member, static_cast<const W*>(self), nullptr, std::move(arguments)));
  }

  template <class M>
  void add(detail::HeldBytesPart<M> part) {
    static_assert(detail::kIsConstMember<M>, "held_bytes is const");
    static_assert(std::unsigned_integral<typename detail::Member<M>::Result>,
                  "held_bytes returns a number without a sign");
    erased_->held_bytes = [member = part.member](const void* self) -> std::size_t {
      return (static_cast<const W*>(self)->*member)();
    };
  }

  template <class M>
  void add(detail::RunPart<M> part) {
    using Arguments = typename detail::Member<M>::Arguments;
    erased_->object_bytes = sizeof(W);
    static_assert(detail::kIsTask<typename detail::Member<M>::Result>, "run returns a Task");
    erased_->create = [](Context& context, const Payloads& input) -> std::shared_ptr<void> {
      if constexpr (std::tuple_size_v<Arguments> == 1) {
        using In = std::tuple_element_t<0, Arguments>;
        if constexpr (std::constructible_from<W, Context&, const In&>) {
          return std::make_shared<W>(context, decode_argument<In>(input));
        } else if constexpr (std::constructible_from<W, Context&>) {
          return std::make_shared<W>(context);
        } else {
          return std::make_shared<W>();
        }
      } else if constexpr (std::constructible_from<W, Context&>) {
        return std::make_shared<W>(context);
      } else {
        return std::make_shared<W>();
      }
    };
    erased_->start = [part](void* self, Context& context, const Payloads& input) {
      return detail::call_for_payload(static_cast<W*>(self), &context, part.member,
                                      detail::decode_arguments<Arguments>(input));
    };
  }

  template <class M>
  void add(detail::SignalPart<M> part) {
    members_.emplace_back(part.member, part.name);
    WorkflowDefinition::Signal signal{part.name, part.description, {}};
    signal.start = [member = part.member](void* self, Context& context, const Payloads& input) {
      return detail::call_for_nothing(
          static_cast<W*>(self), &context, member,
          detail::decode_arguments<typename detail::Member<M>::Arguments>(input));
    };
    erased_->signals.emplace(part.name, std::move(signal));
  }

  template <class M>
  void add(detail::QueryPart<M> part) {
    check_query<M>();
    members_.emplace_back(part.member, part.name);
    WorkflowDefinition::Query query{part.name, part.description, {}};
    query.answer = [member = part.member](const void* self, const Payloads& input) {
      return encode_answer(member, self,
                           detail::decode_arguments<typename detail::Member<M>::Arguments>(input));
    };
    erased_->queries.emplace(part.name, std::move(query));
  }

  template <class M, class V>
  void add(detail::UpdatePart<M, V> part) {
    using Arguments = typename detail::Member<M>::Arguments;
    members_.emplace_back(part.member, part.name);
    WorkflowDefinition::Update update{part.name, part.description, {}, {}, part.where};
    update.validate = [validator = part.validator]([[maybe_unused]] const void* self,
                                                   const Payloads& input) {
      static_cast<void>(validator);
      const Arguments arguments = detail::decode_arguments<Arguments>(input);
      if constexpr (!std::is_null_pointer_v<V>) {
        const W* workflow = static_cast<const W*>(self);
        if constexpr (std::invocable<V, const W*>) {
          (workflow->*validator)();
        } else {
          std::apply([&](const auto&... argument) { (workflow->*validator)(argument...); },
                     arguments);
        }
      }
    };
    update.start = [member = part.member](void* self, Context& context, const Payloads& input) {
      return detail::call_for_payload(static_cast<W*>(self), &context, member,
                                      detail::decode_arguments<Arguments>(input));
    };
    erased_->updates.emplace(part.name, std::move(update));
  }

  template <class M>
  void add(detail::DynamicSignalPart<M> part) {
    erased_->dynamic_signal = [member = part.member](void* self, Context& context,
                                                     const std::string& name,
                                                     const Payloads& input) {
      return detail::call_for_nothing(static_cast<W*>(self), &context, member, {name, input});
    };
  }

  template <class M>
  void add(detail::DynamicQueryPart<M> part) {
    check_query<M>();
    erased_->dynamic_query = [member = part.member](const void* self, const std::string& name,
                                                    const Payloads& input) {
      return encode_answer(member, self, {name, input});
    };
  }

  template <class M, class V>
  void add(detail::DynamicUpdatePart<M, V> part) {
    erased_->dynamic_update.where = part.where;
    erased_->dynamic_update.validate = [validator = part.validator](
                                           [[maybe_unused]] const void* self,
                                           [[maybe_unused]] const std::string& name,
                                           [[maybe_unused]] const Payloads& input) {
      static_cast<void>(validator);
      if constexpr (!std::is_null_pointer_v<V>)
        (static_cast<const W*>(self)->*validator)(name, input);
    };
    erased_->dynamic_update.start = [member = part.member](void* self, Context& context,
                                                           const std::string& name,
                                                           const Payloads& input) {
      return detail::call_for_payload(static_cast<W*>(self), &context, member, {name, input});
    };
  }

  void add(detail::VersioningPart part) { erased_->versioning = part.behavior; }

  std::shared_ptr<WorkflowDefinition> erased_;
  std::vector<std::pair<std::any, std::string>> members_;
};

// The workflow types that a worker or a replayer knows.
class WorkflowRegistry {
 public:
  template <class W>
  void add(const Definition<W>& definition) {
    add(definition.erased());
  }
  void add(std::shared_ptr<const WorkflowDefinition> definition);
  // Takes every type that has no definition of its own; `Context::info` says which it is.
  template <class W>
  void add_fallback(const Definition<W>& definition) {
    fallback_ = definition.erased();
  }
  void add_fallback(std::shared_ptr<const WorkflowDefinition> definition) {
    fallback_ = std::move(definition);
  }
  bool empty() const { return definitions_.empty() && fallback_ == nullptr; }
  // The definition, else the fallback; null if there is neither.
  std::shared_ptr<const WorkflowDefinition> find(std::string_view name) const;
  std::vector<std::string> names() const;

 private:
  std::map<std::string, std::shared_ptr<const WorkflowDefinition>, std::less<>> definitions_;
  std::shared_ptr<const WorkflowDefinition> fallback_;
};

}  // namespace tempora

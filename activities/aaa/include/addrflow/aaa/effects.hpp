// The activity `aaa_apply`: makes the AAA server's rows say what a line may do at its next login.
#pragma once

#include <addrflow/aaa/database.hpp>
#include <addrflow/ports/effect_journal.hpp>

#include <chrono>

namespace addrflow::aaa {

// Thread-safe. Rows that are not ours (credentials, other attributes, other groups) are never
// touched.
class AaaEffects {
 public:
  // The references must outlive this object.
  AaaEffects(Database& database, ports::EffectJournal& journal, ports::ServiceWaker& waker);

  // One effect, in one transaction fenced by its number in the AAA database itself. Conditions of
  // the wish: full (address, plan), restricted (address, plan, suspended group before it), refused
  // (no address, no groups of ours, Auth-Type := Reject). Groups that the username has from
  // somebody else stay, come after ours (docs/radius.md) and are named in the reply's detail. Codes
  // of the reply: applied, fence, invalid_argument, username_taken, aaa_not_set_up,
  // aaa_unreachable, in_doubt.
  // Throws what the journal throws: then nothing was written.
  v1::EffectReply apply(const v1::EffectRequest& request,
                        std::chrono::milliseconds hard_deadline = std::chrono::milliseconds{
                            30'000});

 private:
  struct Wish;
  v1::EffectReply carry_out(const v1::EffectRequest& request, const ports::Leave& leave);
  v1::EffectReply write(const v1::EffectRequest& request, std::int64_t effect_id, const Wish& wish);

  Database& database_;
  ports::EffectJournal& journal_;
  ports::ServiceWaker& waker_;
};

}  // namespace addrflow::aaa

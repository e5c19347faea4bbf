// One attempt of one effect, and what lists of them share.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/netbox/client.hpp>
#include <addrflow/ports/effect_journal.hpp>
#include <addrflow/ports/netbox_ledger.hpp>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::netbox {

v1::EffectReply reply_with(std::string_view status, std::string_view code, std::string detail);
v1::EffectReply confirmed(std::int64_t netbox_id, std::string detail = {});
// In doubt is `unknown`; everything else that failed did certainly nothing.
v1::EffectReply failed(const Error& error);

std::int64_t number_of(const nlohmann::json& wish, const char* name);

Wish wish_of(const ports::Leave& leave);
// Why the effect can never be carried out as it stands; empty: it can.
std::string problem_of(const ports::Leave& leave, const Wish& wish);
// It takes something away, so that nothing there is success.
bool takes_away(const ports::Leave& leave);
// The row came from the platform before us, with the id of the object that it had made.
bool is_taken_over(const ports::Leave& leave);
// The object is what is wished for, in place and network.
bool in_place(const Object& own, const Wish& wish);

class Attempt {
 public:
  Attempt(Client& client, ports::NetboxLedger& ledger, const ports::Leave& leave,
          const std::string& holder, Clock::time_point deadline);

  v1::EffectReply run();

 private:
  Result<std::vector<Object>> find_own();
  v1::EffectReply settle(const Object& own);
  v1::EffectReply make();
  v1::EffectReply make_prefix();
  v1::EffectReply take();
  v1::EffectReply take_one();
  v1::EffectReply taken(const Object& own);
  v1::EffectReply as_only_writer(const std::function<v1::EffectReply()>& work);
  v1::EffectReply without_doubles(const Object& made);
  v1::EffectReply not_made(const Error& error);
  v1::EffectReply adopt_or(v1::EffectReply otherwise);
  v1::EffectReply adopt(const Object& own);
  v1::EffectReply taken_by();

  Client& client_;
  ports::NetboxLedger& ledger_;
  const ports::Leave& leave_;
  Wish wish_;
  const std::string holder_;
  const Clock::time_point deadline_;
};

}  // namespace addrflow::netbox

// CatchUpNetbox: what NetBox missed while it was down, and releases whose quarantine is over. No
// service stays open for them; a schedule runs this every minute.
#pragma once

#include <addrflow/catalog/netbox.hpp>
#include <tempora/definition.hpp>
#include <tempora/workflow.hpp>

namespace addrflow::workflows {

class CatchUpNetbox {
 public:
  tempora::Task<v1::NetboxCatchUpResult> run(tempora::Context& context, tempora::RawPayload input);
};

extern const tempora::Definition<CatchUpNetbox> kNetboxCatchUpDefinition;

}  // namespace addrflow::workflows

// From a call's status to the error that users see.
#pragma once

#include <string>
#include <string_view>
#include <tempora/errors.hpp>

#include "../transport/retrying_caller.hpp"

namespace tempora {

// `writes`: the call changes something, so an unanswered attempt leaves it in doubt.
ClientError to_client_error(const CallEnd& end, std::string_view method, std::string_view subject,
                            bool writes);

// The aborting of an update because its run closed while it waited: it was not run, and may be sent
// again.
bool is_aborted_by_closing_run(const ClientError& error);

}  // namespace tempora

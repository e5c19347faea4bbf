// Search attributes: typed values under registered names, readable in Temporal's visibility. Never
// encrypted.
#pragma once

#include <temporal/api/common/v1/message.pb.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tempora/payload.hpp>
#include <tempora/time.hpp>
#include <vector>

namespace tempora {

// A name must be registered in the namespace before a workflow writes it, else its task fails until
// it is.
class SearchAttributes {
 public:
  SearchAttributes() = default;
  explicit SearchAttributes(const temporal::api::common::v1::SearchAttributes& proto);

  SearchAttributes& set_keyword(std::string name, std::string_view value);
  SearchAttributes& set_keyword_list(std::string name, const std::vector<std::string>& values);
  SearchAttributes& set_text(std::string name, std::string_view value);
  SearchAttributes& set_int(std::string name, std::int64_t value);
  SearchAttributes& set_double(std::string name, double value);
  SearchAttributes& set_bool(std::string name, bool value);
  SearchAttributes& set_datetime(std::string name, TimePoint value);
  // Removes the attribute from the workflow.
  SearchAttributes& unset(std::string name);

  bool contains(const std::string& name) const { return fields_.contains(name); }
  // The decoded value; nothing if it is absent or unset. Throws `PayloadError` if it is of another
  // type.
  template <class T>
  std::optional<T> get(const std::string& name) const {
    const auto found = fields_.find(name);
    if (found == fields_.end() || detail::encoding_of(found->second) == "binary/null")
      return std::nullopt;
    return PayloadCodec<T>::decode(found->second);
  }

  bool empty() const { return fields_.empty(); }
  const std::map<std::string, Payload>& fields() const { return fields_; }
  // Takes over all of `changes`; what they unset is gone.
  void apply(const SearchAttributes& changes);
  void write(temporal::api::common::v1::SearchAttributes* proto) const;

 private:
  SearchAttributes& put(std::string name, std::string_view type, std::string json);
  std::map<std::string, Payload> fields_;  // ordered: iteration is deterministic
};

}  // namespace tempora

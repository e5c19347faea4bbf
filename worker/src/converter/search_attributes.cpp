#include <fmt/chrono.h>
#include <fmt/format.h>

#include <tempora/search_attributes.hpp>

namespace tempora {

SearchAttributes::SearchAttributes(const temporal::api::common::v1::SearchAttributes& proto) {
  for (const auto& [name, payload] : proto.indexed_fields()) fields_.emplace(name, payload);
}

SearchAttributes& SearchAttributes::put(std::string name, std::string_view type, std::string json) {
  Payload payload = detail::json_payload(std::move(json));
  (*payload.mutable_metadata())["type"] = std::string{type};
  fields_.insert_or_assign(std::move(name), std::move(payload));
  return *this;
}

SearchAttributes& SearchAttributes::set_keyword(std::string name, std::string_view value) {
  return put(std::move(name), "Keyword", nlohmann::json(value).dump());
}
SearchAttributes& SearchAttributes::set_keyword_list(std::string name,
                                                     const std::vector<std::string>& values) {
  return put(std::move(name), "KeywordList", nlohmann::json(values).dump());
}
SearchAttributes& SearchAttributes::set_text(std::string name, std::string_view value) {
  return put(std::move(name), "Text", nlohmann::json(value).dump());
}
SearchAttributes& SearchAttributes::set_int(std::string name, std::int64_t value) {
  return put(std::move(name), "Int", nlohmann::json(value).dump());
}
SearchAttributes& SearchAttributes::set_double(std::string name, double value) {
  return put(std::move(name), "Double", nlohmann::json(value).dump());
}
SearchAttributes& SearchAttributes::set_bool(std::string name, bool value) {
  return put(std::move(name), "Bool", value ? "true" : "false");
}
SearchAttributes& SearchAttributes::set_datetime(std::string name, TimePoint value) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(value);
  const auto text =
      fmt::format("\"{:%Y-%m-%dT%H:%M:%S}.{:09}Z\"",
                  fmt::gmtime(std::chrono::system_clock::to_time_t(
                      std::chrono::time_point_cast<std::chrono::system_clock::duration>(seconds))),
                  (value - seconds).count());
  return put(std::move(name), "Datetime", text);
}

SearchAttributes& SearchAttributes::unset(std::string name) {
  fields_.insert_or_assign(std::move(name), detail::null_payload());
  return *this;
}

void SearchAttributes::apply(const SearchAttributes& changes) {
  for (const auto& [name, payload] : changes.fields_) {
    if (detail::encoding_of(payload) == "binary/null") {
      fields_.erase(name);
    } else {
      fields_.insert_or_assign(name, payload);
    }
  }
}

void SearchAttributes::write(temporal::api::common::v1::SearchAttributes* proto) const {
  for (const auto& [name, payload] : fields_) (*proto->mutable_indexed_fields())[name] = payload;
}

}  // namespace tempora

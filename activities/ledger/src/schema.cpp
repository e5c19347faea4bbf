#include "schema.hpp"

#include <fmt/format.h>
#include <map>
#include <set>
#include <string>

namespace addrflow::ledger {
namespace {

struct Object {
  std::string table;  // empty: stands for itself
  std::string definition;
};
using Objects = std::map<std::string, Object>;

// Each: what it is, the table it belongs to, its definition. $1 is the schema.
constexpr const char* kObjects = R"sql(
WITH t AS (SELECT c.oid, c.relname, c.relrowsecurity FROM pg_class c
  WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p'))
SELECT 'table ' || relname, relname::text,
  CASE WHEN relrowsecurity THEN 'row-level security' ELSE '' END FROM t
UNION ALL
SELECT format('column %s.%s', relname, attname), relname::text, concat_ws(' ',
  format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,
  CASE WHEN attidentity <> '' THEN 'IDENTITY' END,
  'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'index ' || i.relname, t.relname::text, pg_get_indexdef(i.oid)
FROM t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
UNION ALL
SELECT format('constraint %s of %s', conname, relname), relname::text, pg_get_constraintdef(c.oid)
FROM t JOIN pg_constraint c ON c.conrelid = t.oid
UNION ALL
SELECT format('trigger %s of %s', tgname, relname), relname::text, pg_get_triggerdef(g.oid)
FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT tgisinternal
UNION ALL
SELECT format('policy %s of %s', polname, relname), relname::text, concat_ws(' ', polcmd::text,
  pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM t JOIN pg_policy p ON p.polrelid = t.oid
UNION ALL
SELECT 'type ' || typname, '', (SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder)
  FROM pg_enum WHERE enumtypid = y.oid)
FROM pg_type y WHERE typnamespace = $1::regnamespace AND typtype = 'e'
UNION ALL
SELECT format('function %s(%s)', proname, pg_get_function_identity_arguments(f.oid)), '',
  -- Where a function looks is the schema that it was made in, and the way there.
  regexp_replace(pg_get_functiondef(f.oid), E' SET search_path TO [^\n]*\n', '')
FROM pg_proc f WHERE pronamespace = $1::regnamespace AND prokind = 'f' AND NOT EXISTS
  (SELECT 1 FROM pg_depend e WHERE e.objid = f.oid AND e.deptype = 'e')
)sql";

Objects objects_of(pqxx::dbtransaction& tx, const std::string& schema) {
  Objects objects;
  for (const auto& row : tx.exec_params(kObjects, schema)) {
    std::string definition = row[2].c_str();
    // The schema where it qualifies a name, and nowhere else: a table may be named like it.
    const std::string word = schema + ".";
    for (std::size_t at = 0; (at = definition.find(word, at)) != std::string::npos;)
      definition.erase(at, word.size());
    objects[row[0].c_str()] = {row[1].c_str(), std::move(definition)};
  }
  return objects;
}

}  // namespace

std::vector<Difference> compare_schema(pqxx::dbtransaction& tx,
                                       const std::function<void(pqxx::dbtransaction&)>& make) {
  const auto now = tx.exec("SELECT quote_ident(current_schema()), current_setting('search_path')");
  const std::string schema = now[0][0].c_str();
  const std::string path = now[0][1].c_str();
  const std::string scratch = "addrflow_expected";
  const Objects found = objects_of(tx, schema);
  tx.exec("CREATE SCHEMA " + scratch);
  // What extensions brought is used where it is.
  tx.exec(fmt::format("SET LOCAL search_path = {}, {}", scratch, path));
  make(tx);
  const Objects expected = objects_of(tx, scratch);

  std::vector<Difference> differences;
  std::set<std::string> tables;
  for (const auto& [name, object] : expected) {
    tables.insert(object.table);
    const auto present = found.find(name);
    if (present == found.end()) {
      differences.push_back({Difference::Kind::kMissing, name, {}, {}});
    } else if (present->second.definition != object.definition) {
      differences.push_back(
          {Difference::Kind::kDifferent, name, object.definition, present->second.definition});
    }
  }
  tables.erase("");
  for (const auto& [name, object] : found) {
    if (tables.contains(object.table) && !expected.contains(name))
      differences.push_back({Difference::Kind::kExtra, name, {}, object.definition});
  }
  return differences;
}

}  // namespace addrflow::ledger

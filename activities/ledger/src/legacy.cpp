#include "legacy.hpp"

#include <fmt/format.h>
#include <addrflow/ledger/error.hpp>
#include <array>

namespace addrflow::ledger {
namespace {

using domain::ErrorCode;

constexpr const char* kSchema = "addrflow_legacy";
constexpr std::array kTables{"ip_pools", "ip_reservations", "subscriber_network_profiles"};
constexpr std::array kTypes{"lifecyclestate", "ipv6lifecyclestate"};
// Tables of ours that a platform may have under the same name and another meaning.
constexpr std::array kOwnNames{"tenants",  "routing_domains", "pool_grants", "pool_addresses",
                               "nas",      "services",        "holds",       "operations",
                               "holdings", "effects"};

std::string filled(std::string sql, const std::string& mark, const std::string& text) {
  for (std::size_t at = 0; (at = sql.find(mark, at)) != std::string::npos; at += text.size())
    sql.replace(at, mark.size(), text);
  return sql;
}
std::string with_schema(std::string sql, const std::string& schema) {
  return filled(std::move(sql), "@src@", schema);
}

// The platform's columns differ from release to release: so each row is read as JSON, and a column
// that is not there is one that is empty. (OFFSET 0: the row is made JSON once, not for each
// column.)
constexpr const char* kTools = R"sql(
SET LOCAL timezone = 'UTC';
CREATE FUNCTION pg_temp.as_space(text) RETURNS inet LANGUAGE plpgsql IMMUTABLE AS $f$
BEGIN RETURN $1::inet; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $f$;
CREATE FUNCTION pg_temp.as_number(text) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $f$ SELECT CASE WHEN $1 ~ '^[0-9]{1,18}$' THEN $1::bigint END $f$;
CREATE FUNCTION pg_temp.is_id(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
  $f$ SELECT coalesce($1 ~ '^[A-Za-z0-9._-]{1,64}$', false) $f$;
CREATE TEMP TABLE lf_pools (
  legacy_id text, tenant text, name text, prefix inet, gateway inet, netbox_prefix_id bigint,
  id uuid NOT NULL DEFAULT gen_random_uuid(), domain text NOT NULL DEFAULT 'default',
  vrf bigint NOT NULL DEFAULT 0
) ON COMMIT DROP;
CREATE TEMP TABLE lf_rows (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text, legacy_id text, tenant text,
  subscriber text, family text, pool_key text, space inet, state text, created timestamptz,
  allocated timestamptz, activated timestamptz, suspended timestamptz, revoked timestamptz,
  netbox_id bigint, username text, reason text, metadata jsonb, pool uuid, domain text,
  fate text, why text, generation bigint
) ON COMMIT DROP;
CREATE TEMP TABLE lf_problems (what text) ON COMMIT DROP;
)sql";

constexpr const char* kReadPools = R"sql(
INSERT INTO lf_pools (legacy_id, tenant, name, prefix, gateway, netbox_prefix_id, id)
SELECT j->>'id', j->>'tenant_id',
  coalesce(nullif(left(regexp_replace(coalesce(j->>'pool_name', j->>'name', ''),
    '[^A-Za-z0-9._-]+', '-', 'g'), 64), ''), left('pool-' || (j->>'id'), 64)),
  network(pg_temp.as_space(coalesce(j->>'network_cidr', j->>'cidr', j->>'prefix', j->>'network',
    j->>'subnet'))),
  pg_temp.as_space(j->>'gateway'), pg_temp.as_number(j->>'netbox_prefix_id'),
  CASE WHEN j->>'id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN (j->>'id')::uuid
    ELSE gen_random_uuid() END
FROM (SELECT to_jsonb(p) AS j FROM @src@.ip_pools p OFFSET 0) x;
)sql";

constexpr const char* kReadReservations = R"sql(
INSERT INTO lf_rows (source, legacy_id, tenant, subscriber, family, pool_key, space, state, created,
  allocated, activated, suspended, revoked, netbox_id, username, reason, metadata)
SELECT 'ip_reservations', j->>'id', j->>'tenant_id',
  coalesce(nullif(j->>'subscriber_id', ''), nullif(j->>'customer_id', '')), 'ipv4', j->>'pool_id',
  host(pg_temp.as_space(j->>'ip_address'))::inet,
  CASE WHEN lower(j->>'lifecycle_state') IN ('allocated', 'active', 'suspended', 'revoking',
      'revoked', 'failed') THEN lower(j->>'lifecycle_state')
    WHEN lower(j->>'status') = 'assigned' THEN 'active'
    WHEN lower(j->>'status') = 'reserved' THEN 'allocated' ELSE 'pending' END,
  least(coalesce((j->>'created_at')::timestamptz, (j->>'reserved_at')::timestamptz,
    (j->>'lifecycle_allocated_at')::timestamptz, now()), now()),
  (j->>'lifecycle_allocated_at')::timestamptz, (j->>'lifecycle_activated_at')::timestamptz,
  (j->>'lifecycle_suspended_at')::timestamptz,
  coalesce((j->>'lifecycle_revoked_at')::timestamptz, (j->>'updated_at')::timestamptz),
  coalesce(pg_temp.as_number(j->>'netbox_ip_id'),
    pg_temp.as_number(j->'lifecycle_metadata'->>'netbox_ip_id')),
  coalesce(j->>'username', ''),
  coalesce(nullif(j->'lifecycle_metadata'->>'suspension_reason', ''), 'imported'),
  CASE WHEN jsonb_typeof(j->'lifecycle_metadata') = 'object' THEN j->'lifecycle_metadata'
    ELSE '{}' END
FROM (SELECT to_jsonb(r) AS j FROM @src@.ip_reservations r OFFSET 0) x;
)sql";

// A prefix that stands in a profile is in use: the platform's revoke clears it.
constexpr const char* kReadProfiles = R"sql(
INSERT INTO lf_rows (source, legacy_id, tenant, subscriber, family, space, state, created, allocated,
  activated, suspended, revoked, netbox_id, username, reason, metadata)
SELECT 'subscriber_network_profiles', j->>'id', j->>'tenant_id', nullif(j->>'subscriber_id', ''),
  'ipv6_pd', network(pg_temp.as_space(coalesce(j->>'ipv6_prefix', j->>'delegated_ipv6_prefix'))),
  CASE WHEN lower(j->>'ipv6_state') = 'pending' THEN 'allocated'
    WHEN lower(j->>'ipv6_state') IN ('allocated', 'active', 'suspended', 'revoking', 'revoked',
      'failed') THEN lower(j->>'ipv6_state') ELSE 'active' END,
  least(coalesce((j->>'ipv6_allocated_at')::timestamptz, (j->>'created_at')::timestamptz, now()),
    now()),
  (j->>'ipv6_allocated_at')::timestamptz, (j->>'ipv6_activated_at')::timestamptz,
  (j->>'ipv6_suspended_at')::timestamptz, (j->>'ipv6_revoked_at')::timestamptz,
  pg_temp.as_number(j->>'ipv6_netbox_prefix_id'), coalesce(j->>'username', ''), 'imported', '{}'
FROM (SELECT to_jsonb(r) AS j FROM @src@.subscriber_network_profiles r OFFSET 0) x
WHERE coalesce(nullif(j->>'ipv6_prefix', ''), nullif(j->>'delegated_ipv6_prefix', '')) IS NOT NULL;
)sql";

// Pools in different VRFs may overlap. Outside of any those of two tenants may, each then in a
// routing domain of its own; those of one may not.
constexpr const char* kJudgePools = R"sql(
INSERT INTO lf_problems
SELECT format('pool %s of tenant %s has no prefix: name it with --pool ''%s/%s=PREFIX''',
  name, tenant, tenant, name) FROM lf_pools WHERE prefix IS NULL ORDER BY tenant, name;
INSERT INTO lf_problems
SELECT format('tenant_id ''%s'' of pool %s is no id: letters, digits and ._- only', tenant, name)
FROM lf_pools WHERE NOT pg_temp.is_id(tenant);
INSERT INTO lf_problems
SELECT format('pool %s of tenant %s is wider than /12: split it with --pool', name, tenant)
FROM lf_pools WHERE family(prefix) = 4 AND masklen(prefix) < 12;
INSERT INTO lf_problems
SELECT format('pools %s and %s of tenant %s overlap (%s, %s)', a.name, b.name, a.tenant, a.prefix,
  b.prefix)
FROM lf_pools a JOIN lf_pools b ON a.ctid < b.ctid AND a.tenant = b.tenant AND a.vrf = b.vrf
  AND a.prefix && b.prefix;
INSERT INTO lf_problems
SELECT format('pools %s of tenant %s and %s of tenant %s overlap in NetBox VRF %s', a.name, a.tenant,
  b.name, b.tenant, a.vrf)
FROM lf_pools a JOIN lf_pools b ON a.ctid < b.ctid AND a.tenant <> b.tenant AND a.vrf = b.vrf
  AND a.prefix && b.prefix WHERE a.vrf <> 0;
UPDATE lf_pools a SET domain = 'tenant-' || a.tenant
WHERE a.vrf = 0 AND EXISTS (SELECT 1 FROM lf_pools b
  WHERE b.tenant <> a.tenant AND b.vrf = 0 AND a.prefix && b.prefix);
UPDATE lf_pools SET domain = 'vrf-' || vrf WHERE vrf <> 0;
UPDATE lf_pools p SET name = left(p.name, 50) || '-' || left(p.id::text, 8)
WHERE EXISTS (SELECT 1 FROM lf_pools o
  WHERE o.tenant = p.tenant AND o.name = p.name AND o.ctid < p.ctid);
)sql";

constexpr const char* kJudgeRows = R"sql(
ANALYZE lf_rows;
ANALYZE lf_pools;
UPDATE lf_rows r SET pool = p.id, domain = p.domain FROM lf_pools p
WHERE p.legacy_id = r.pool_key AND r.space <<= p.prefix;
-- Of pools in several VRFs no row without a pool says which one it means.
UPDATE lf_rows r SET pool = p.id, domain = p.domain FROM lf_pools p
WHERE r.pool IS NULL AND p.tenant = r.tenant AND r.space <<= p.prefix AND NOT EXISTS
  (SELECT 1 FROM lf_pools o WHERE o.tenant = p.tenant AND o.ctid <> p.ctid
    AND o.prefix && p.prefix AND r.space <<= o.prefix);
CREATE INDEX ON lf_rows (tenant, subscriber, family);
ANALYZE lf_rows;
INSERT INTO lf_problems
SELECT format('%s delegated prefixes of tenant %s lie in no pool (%s …): name it with'
  ' --pool ''%s/NAME=PREFIX''', count(*), tenant, min(space), tenant)
FROM lf_rows r WHERE family = 'ipv6_pd' AND space IS NOT NULL AND pool IS NULL
  AND state <> 'revoked' AND NOT EXISTS
  (SELECT 1 FROM lf_pools p WHERE p.tenant = r.tenant AND r.space <<= p.prefix)
GROUP BY tenant ORDER BY tenant;

-- What is not live holds nothing, and what of it is incomplete says nothing.
UPDATE lf_rows SET fate = CASE WHEN pg_temp.is_id(tenant) AND pg_temp.is_id(subscriber)
  AND pool IS NOT NULL THEN 'history' ELSE 'skipped' END WHERE state IN ('pending', 'revoked');
UPDATE lf_rows SET fate = 'aside', why = 'tenant_id is missing or no id'
WHERE fate IS NULL AND NOT pg_temp.is_id(tenant);
UPDATE lf_rows SET fate = 'aside', why = 'subscriber_id is missing or no id'
WHERE fate IS NULL AND NOT pg_temp.is_id(subscriber);
UPDATE lf_rows SET fate = 'aside', why = 'ip_address is missing or no address'
WHERE fate IS NULL AND space IS NULL;
UPDATE lf_rows r SET fate = 'aside', why = 'several pools contain the address'
WHERE fate IS NULL AND pool IS NULL AND EXISTS
  (SELECT 1 FROM lf_pools p WHERE p.tenant = r.tenant AND r.space <<= p.prefix);
UPDATE lf_rows SET fate = 'aside', why = 'no pool contains the address'
WHERE fate IS NULL AND pool IS NULL;
UPDATE lf_rows r SET fate = 'aside', why = 'it is the gateway of its pool'
FROM lf_pools p WHERE r.fate IS NULL AND p.id = r.pool AND p.gateway = r.space;

CREATE TEMP TABLE lf_rank ON COMMIT DROP AS
SELECT n, array_position(ARRAY['active', 'suspended', 'allocated', 'revoking', 'failed'], state)
  AS rank FROM lf_rows WHERE fate IS NULL;
CREATE UNIQUE INDEX ON lf_rank (n);
UPDATE lf_rows r SET fate = 'aside', why = format('the address is held by row %s, of %s',
  d.first_id, d.first_subscriber)
FROM (SELECT r.n, row_number() OVER w AS place, first_value(r.legacy_id) OVER w AS first_id,
        first_value(r.subscriber) OVER w AS first_subscriber
      FROM lf_rows r JOIN lf_rank USING (n)
      WINDOW w AS (PARTITION BY r.domain, r.space ORDER BY rank, created DESC, r.n)) d
WHERE d.n = r.n AND d.place > 1;
UPDATE lf_rows r SET fate = 'aside', why = format('the prefix overlaps with %s of row %s', o.space,
  o.legacy_id)
FROM lf_rows o WHERE r.fate IS NULL AND o.fate IS NULL AND r.family = 'ipv6_pd'
  AND o.family = 'ipv6_pd' AND r.domain = o.domain AND r.space << o.space;
UPDATE lf_rows r SET fate = 'aside', why = format('the subscriber has row %s already', d.first_id)
FROM (SELECT r.n, row_number() OVER w AS place, first_value(r.legacy_id) OVER w AS first_id
      FROM lf_rows r JOIN lf_rank USING (n) WHERE r.fate IS NULL
      WINDOW w AS (PARTITION BY tenant, subscriber, r.family ORDER BY rank, created DESC, r.n)) d
WHERE d.n = r.n AND d.place > 1;
UPDATE lf_rows SET fate = 'live' WHERE fate IS NULL;
ANALYZE lf_rows;
-- Of what was released, the newest stands for the subscriber who has nothing now.
UPDATE lf_rows r SET fate = 'pending'
FROM (SELECT n, row_number() OVER (PARTITION BY tenant, subscriber, family
        ORDER BY created DESC, n DESC) AS place
      FROM lf_rows h WHERE fate = 'history' AND state = 'pending' AND NOT EXISTS
        (SELECT 1 FROM lf_rows l WHERE l.fate = 'live' AND l.tenant = h.tenant
          AND l.subscriber = h.subscriber AND l.family = h.family)) d
WHERE d.n = r.n AND d.place = 1;
UPDATE lf_rows SET fate = 'revoked' WHERE fate = 'history' AND state = 'revoked';
UPDATE lf_rows r SET generation = d.place
FROM (SELECT n, row_number() OVER (PARTITION BY tenant, subscriber
        ORDER BY fate <> 'revoked', created, n) AS place
      FROM lf_rows WHERE fate IN ('live', 'pending', 'revoked')) d WHERE d.n = r.n;
)sql";

constexpr const char* kMakeSidelines = R"sql(
CREATE SCHEMA IF NOT EXISTS addrflow_legacy;
CREATE TABLE addrflow_legacy.takeover (
  schema text NOT NULL, moved boolean NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE addrflow_legacy.imported (
  source text NOT NULL, legacy_id text NOT NULL, reservation_id bigint NOT NULL);
CREATE TABLE addrflow_legacy.set_aside (
  source text NOT NULL, legacy_id text, tenant_id text, subscriber_id text, space inet,
  state text NOT NULL, why text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
)sql";

constexpr const char* kImportPools = R"sql(
INSERT INTO tenants (tenant_id)
SELECT tenant FROM lf_pools UNION
SELECT tenant FROM lf_rows WHERE fate IN ('live', 'pending', 'revoked', 'history')
ON CONFLICT DO NOTHING;
INSERT INTO routing_domains (name, netbox_vrf_id)
SELECT DISTINCT domain, nullif(vrf, 0) FROM lf_pools ON CONFLICT DO NOTHING;
INSERT INTO ip_pools (id, tenant_id, pool_name, family, routing_domain_id, prefix, gateway,
  netbox_mode, netbox_prefix_id, delegated_length, chunk_length)
SELECT p.id, tenant, p.name, CASE family(p.prefix) WHEN 4 THEN 'ipv4' ELSE 'ipv6_pd' END, d.id,
  p.prefix::cidr, CASE WHEN p.gateway <<= p.prefix THEN p.gateway END,
  CASE WHEN p.netbox_prefix_id IS NULL AND p.vrf = 0 THEN 'off' ELSE 'mirror' END,
  p.netbox_prefix_id,
  CASE family(p.prefix) WHEN 4 THEN 32 ELSE greatest(coalesce(l.longest, 56), masklen(p.prefix)) END,
  CASE family(p.prefix) WHEN 4 THEN 32 ELSE greatest(coalesce(l.shortest, 56), masklen(p.prefix)) END
FROM lf_pools p JOIN routing_domains d ON d.name = p.domain LEFT JOIN (
  SELECT pool, max(masklen(space)) AS longest, min(masklen(space)) AS shortest FROM lf_rows
  WHERE family = 'ipv6_pd' AND fate IN ('live', 'pending', 'revoked') GROUP BY pool) l
  ON l.pool = p.id;
SELECT make_pool_shards(id) FROM ip_pools WHERE family = 'ipv6_pd';
INSERT INTO pool_grants (pool_id, tenant_id)
SELECT id, tenant FROM lf_pools UNION
SELECT pool, tenant FROM lf_rows WHERE fate IN ('live', 'pending', 'revoked')
ON CONFLICT DO NOTHING;
INSERT INTO pool_addresses (pool_id, address)
SELECT p.id, host(network(p.prefix))::inet + i FROM lf_pools p, generate_series(
  CASE WHEN masklen(p.prefix) <= 30 THEN 1 ELSE 0 END,
  (2 ^ (32 - masklen(p.prefix)))::bigint - CASE WHEN masklen(p.prefix) <= 30 THEN 2 ELSE 1 END) i
WHERE family(p.prefix) = 4;
ANALYZE pool_addresses;
UPDATE pool_addresses a SET state = 'blocked', why = 'the gateway' FROM lf_pools p
WHERE p.id = a.pool_id AND p.gateway = a.address;
)sql";

// Every service begins with one finished operation, to which all of its rows belong.
constexpr const char* kImportServices = R"sql(
INSERT INTO services (tenant_id, subscriber_id, service, number, generation, username)
SELECT tenant, subscriber, 'internet', 1, max(generation), '' FROM lf_rows
WHERE fate IN ('live', 'pending', 'revoked') GROUP BY tenant, subscriber;
UPDATE services s SET username = u.username
FROM (SELECT username, min(tenant) AS tenant, min(subscriber) AS subscriber FROM lf_rows
      WHERE fate = 'live' AND username <> ''
      GROUP BY username HAVING count(DISTINCT (tenant, subscriber)) = 1) u
WHERE s.tenant_id = u.tenant AND s.subscriber_id = u.subscriber;
ANALYZE services;
INSERT INTO operations (tenant_id, subscriber_id, service, service_id, key, request_hash, operation,
  number, phase, outcome, actor, reason, finished_at)
SELECT tenant_id, subscriber_id, service, id, 'import', 'import', 'import', 1, 'finished',
  '{"success": true, "code": "ok", "operation": "import", "message": "taken over"}', 'migration',
  'taken over from the platform', clock_timestamp() FROM services;
ANALYZE operations;
UPDATE services s SET last_operation_id = o.id FROM operations o
WHERE o.service_id = s.id AND o.key = 'import';
)sql";

// What was live may be known to AAA: it goes through the gate when its time comes.
constexpr const char* kImportBindings = R"sql(
CREATE TEMP TABLE lf_live ON COMMIT DROP AS
SELECT r.*, s.id AS service_id, s.last_operation_id AS operation_id, d.id AS domain_id,
  now() + ($1::bigint * interval '1 hour') AS grace_until
FROM lf_rows r JOIN services s ON s.tenant_id = r.tenant AND s.subscriber_id = r.subscriber
JOIN routing_domains d ON d.name = r.domain WHERE r.fate IN ('live', 'pending', 'revoked');
)sql";

constexpr const char* kImportHoldings = R"sql(
ANALYZE lf_live;
INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, generation,
  routing_domain_id, pool_id, space, period, exposed, releasing, releasing_since, opened_by)
SELECT tenant, subscriber, 'internet', service_id, family, generation, domain_id, pool, space,
  tstzrange(least(coalesce(allocated, created), now()), NULL), true, state = 'revoking',
  CASE WHEN state = 'revoking' THEN now() END, operation_id
FROM lf_live WHERE fate = 'live' ORDER BY space;
ANALYZE services;
ANALYZE holdings;
INSERT INTO ip_reservations (tenant_id, subscriber_id, service, service_id, family, generation,
  pool_id, ip_address, holding_id, netbox_ip_id, netbox_key, created_by, created_by_operation,
  lifecycle_state, lifecycle_allocated_at, lifecycle_activated_at, lifecycle_suspended_at,
  lifecycle_revoked_at, lifecycle_metadata, revoking_since, created_at, grace_until)
SELECT l.tenant, l.subscriber, 'internet', l.service_id, l.family, l.generation, l.pool, l.space,
  h.id, l.netbox_id, concat_ws('/', l.tenant, l.subscriber, 'internet', l.family,
    CASE l.family WHEN 'ipv4' THEN host(l.space) ELSE text(l.space) END),
  'import', l.operation_id, l.state::lifecyclestate,
  CASE WHEN l.fate = 'live' THEN coalesce(l.allocated, l.created) ELSE l.allocated END,
  CASE WHEN l.state IN ('active', 'suspended') THEN coalesce(l.activated, l.created)
    ELSE l.activated END,
  CASE WHEN l.state = 'suspended' THEN coalesce(l.suspended, l.created) ELSE l.suspended END,
  CASE WHEN l.fate = 'revoked' THEN coalesce(l.revoked, l.created) END,
  l.metadata || jsonb_build_object('imported_from', l.source, 'imported_id', l.legacy_id),
  CASE WHEN l.state = 'revoking' THEN now() END, l.created, l.grace_until
FROM lf_live l LEFT JOIN holdings h ON l.fate = 'live' AND h.service_id = l.service_id
  AND h.family = l.family AND h.generation = l.generation;
INSERT INTO addrflow_legacy.imported (source, legacy_id, reservation_id)
SELECT lifecycle_metadata->>'imported_from', lifecycle_metadata->>'imported_id', id
FROM ip_reservations WHERE created_by = 'import';
CREATE INDEX ON addrflow_legacy.imported (reservation_id);
)sql";

// @family@ is empty where a hold is the whole service's.
constexpr const char* kImportHolds = R"sql(
INSERT INTO holds (service_id, tenant_id, reason, actor, since@family@)
SELECT service_id, tenant, reason, 'migration', coalesce(suspended, created)@family@ FROM lf_live
WHERE fate = 'live' AND state = 'suspended' ON CONFLICT DO NOTHING;
)sql";

constexpr const char* kImportSpace = R"sql(
-- Network and broadcast addresses have no row, but the platform may have handed them out.
INSERT INTO pool_addresses (pool_id, address)
SELECT pool, space FROM lf_live WHERE fate = 'live' AND family = 'ipv4' ON CONFLICT DO NOTHING;
UPDATE pool_addresses a SET state = 'held' FROM lf_live l
WHERE l.fate = 'live' AND l.family = 'ipv4' AND a.pool_id = l.pool AND a.address = l.space;
-- A prefix has a row once somebody had it; one that is longer than its pool's pieces is split out of its piece.
INSERT INTO pool_addresses (pool_id, address)
SELECT DISTINCT l.pool, network(set_masklen(l.space, p.chunk_length))::inet
FROM lf_live l JOIN ip_pools p ON p.id = l.pool
WHERE l.fate = 'live' AND l.family = 'ipv6_pd' ON CONFLICT DO NOTHING;
DO $held$
DECLARE
  one record;
  parent inet;
BEGIN
  FOR one IN SELECT l.pool, l.space, p.chunk_length FROM lf_live l JOIN ip_pools p ON p.id = l.pool
      WHERE l.fate = 'live' AND l.family = 'ipv6_pd' LOOP
    SELECT a.address INTO parent FROM generate_series(one.chunk_length, masklen(one.space)) size
      JOIN pool_addresses a ON a.pool_id = one.pool
        AND a.address = network(set_masklen(one.space, size))::inet
      ORDER BY size DESC LIMIT 1;
    PERFORM split_space(one.pool, parent, one.space);
    UPDATE pool_addresses a SET state = 'held'
      WHERE a.pool_id = one.pool AND a.address = one.space;
  END LOOP;
END
$held$;
UPDATE pool_addresses a SET state = 'blocked', why = left('set aside by the migration: ' || r.why, 200)
FROM lf_rows r WHERE r.fate = 'aside' AND a.pool_id = r.pool AND a.address = r.space
  AND a.state = 'free';
UPDATE pool_addresses a SET state = 'blocked', why = left('set aside by the migration: ' || r.why, 200)
FROM lf_rows r JOIN lf_pools p ON p.tenant = r.tenant AND r.space <<= p.prefix
WHERE r.fate = 'aside' AND r.pool IS NULL AND a.pool_id = p.id AND a.address = r.space
  AND a.state = 'free';
-- A prefix that nobody holds is no row of its pool yet.
INSERT INTO pool_exclusions (pool_id, space, reason)
SELECT p.id, r.space, left('set aside by the migration: ' || r.why, 200)
FROM lf_rows r JOIN lf_pools p ON p.id = r.pool OR (r.pool IS NULL AND p.tenant = r.tenant
  AND r.space <<= p.prefix)
WHERE r.fate = 'aside' AND r.family = 'ipv6_pd' AND r.space IS NOT NULL AND NOT EXISTS
  (SELECT 1 FROM pool_addresses a WHERE a.pool_id = p.id AND a.state = 'held'
   AND a.address && r.space)
ON CONFLICT DO NOTHING;
-- Nobody has seen the old sessions end: what was given back rests for a quarantine.
UPDATE pool_addresses a SET last_service_id = l.service_id, last_end = now(),
  free_after = now() + p.quarantine_s * interval '1 second'
FROM (SELECT DISTINCT ON (pool, space) pool, space, s.id AS service_id
      FROM lf_rows r JOIN services s ON s.tenant_id = r.tenant AND s.subscriber_id = r.subscriber
      WHERE fate IN ('pending', 'revoked', 'history') AND family = 'ipv4'
      ORDER BY pool, space, created DESC, n DESC) l JOIN ip_pools p ON p.id = l.pool
WHERE a.pool_id = l.pool AND a.address = l.space AND a.state = 'free';
INSERT INTO addrflow_legacy.set_aside (source, legacy_id, tenant_id, subscriber_id, space, state, why)
SELECT source, legacy_id, tenant, subscriber, space, state, why FROM lf_rows WHERE fate = 'aside';
-- A revoke that the platform began is ended by the service's own workflow, through the gate.
INSERT INTO effects (tenant_id, service_id, operation_id, number, system, action, wish)
SELECT s.tenant_id, s.id, s.last_operation_id, 1, 'aaa', 'apply', jsonb_build_object(
  'username', coalesce(nullif(s.username, ''), s.subscriber_id), 'former_usernames', '[]'::jsonb,
  'nas_ip', '', 'plan', 'default', 'framed_ip', l.address, 'condition', 'refused')
FROM services s JOIN (SELECT service_id,
    coalesce(max(host(space)) FILTER (WHERE family = 'ipv4'), '') AS address
  FROM lf_live WHERE fate = 'live' GROUP BY service_id HAVING bool_and(state = 'revoking')) l
  ON l.service_id = s.id;
INSERT INTO audit_log (tenant_id, event, actor, code, detail)
SELECT tenant, 'import', 'migration', 'ok', format('%s rows, %s of them live', count(*),
  count(*) FILTER (WHERE fate = 'live')) FROM lf_live GROUP BY tenant;
UPDATE ip_pools p SET total_addresses = c.total, assigned_count = c.held, available_count = c.free
FROM (SELECT pool_id, count(*) FILTER (WHERE state <> 'blocked') AS total,
        count(*) FILTER (WHERE state = 'held') AS held,
        count(*) FILTER (WHERE state = 'free' AND free_after <= now()) AS free
      FROM pool_addresses GROUP BY pool_id) c WHERE c.pool_id = p.id;
ANALYZE ip_reservations;
ANALYZE pool_addresses;
)sql";

constexpr const char* kImportProfiles = R"sql(
INSERT INTO subscriber_network_profiles (tenant_id, subscriber_id, vlan, static_ipv4,
  ipv6_assignment_mode, ipv6_prefix, ipv6_state, ipv6_allocated_at, ipv6_activated_at,
  ipv6_suspended_at, ipv6_revoked_at, ipv6_netbox_prefix_id)
SELECT DISTINCT ON (j->>'tenant_id', j->>'subscriber_id') j->>'tenant_id', j->>'subscriber_id',
  pg_temp.as_number(coalesce(j->>'vlan', j->>'service_vlan'))::integer,
  pg_temp.as_space(coalesce(j->>'static_ipv4', j->>'static_ipv4_address')),
  CASE WHEN lower(j->>'ipv6_assignment_mode') IN ('none', 'slaac', 'stateful', 'pd', 'dual_stack')
    THEN lower(j->>'ipv6_assignment_mode') WHEN l.n IS NOT NULL THEN 'pd'
    -- Without a word of it a subscriber may have a prefix, as one without a profile may.
    WHEN trim(coalesce(j->>'ipv6_assignment_mode', '')) = '' THEN 'pd' ELSE 'none' END,
  l.space::cidr, coalesce(l.state, CASE WHEN lower(j->>'ipv6_state') = 'revoked' THEN 'revoked'
    ELSE 'pending' END)::ipv6lifecyclestate,
  CASE WHEN l.n IS NULL THEN (j->>'ipv6_allocated_at')::timestamptz
    ELSE coalesce(l.allocated, l.created) END,
  (j->>'ipv6_activated_at')::timestamptz, (j->>'ipv6_suspended_at')::timestamptz,
  (j->>'ipv6_revoked_at')::timestamptz, l.netbox_id
FROM (SELECT to_jsonb(r) AS j FROM @src@.subscriber_network_profiles r OFFSET 0) x
LEFT JOIN lf_rows l ON l.fate = 'live' AND l.source = 'subscriber_network_profiles'
  AND l.legacy_id = j->>'id'
JOIN tenants t ON t.tenant_id = j->>'tenant_id'
WHERE pg_temp.is_id(j->>'subscriber_id')
ORDER BY j->>'tenant_id', j->>'subscriber_id', l.n
-- The prefix's working row may have made its profile already.
ON CONFLICT (tenant_id, subscriber_id) DO UPDATE SET vlan = excluded.vlan,
  static_ipv4 = excluded.static_ipv4, ipv6_assignment_mode = excluded.ipv6_assignment_mode,
  ipv6_suspended_at = excluded.ipv6_suspended_at;
)sql";

// The state of each imported binding, and of what its subscriber has had since, in the old words.
constexpr const char* kPresent = R"sql(
CREATE TEMP TABLE lf_present ON COMMIT DROP AS
SELECT i.source, i.legacy_id, r.lifecycle_state::text AS state, r.lifecycle_allocated_at,
  r.lifecycle_activated_at, r.lifecycle_suspended_at, r.lifecycle_revoked_at,
  CASE WHEN r.lifecycle_state IN ('active', 'suspended', 'revoking') THEN 'assigned'
    WHEN r.lifecycle_state IN ('allocated', 'failed') THEN 'reserved' ELSE 'released' END AS status
FROM addrflow_legacy.imported i JOIN ip_reservations r ON r.id = i.reservation_id;
CREATE INDEX ON lf_present (source, legacy_id);
)sql";

}  // namespace

std::int64_t Legacy::count(const std::string& sql) {
  return tx_.exec(sql)[0][0].as<std::int64_t>();
}

bool Legacy::taken_over() {
  return count(
             "SELECT count(*) FROM pg_class WHERE oid = to_regclass('addrflow_legacy.takeover')") >
         0;
}

std::optional<std::string> Legacy::find(const std::string& named) {
  if (taken_over()) return std::nullopt;
  const auto found = tx_.exec_params(
      "SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
      " WHERE c.relname IN ('ip_pools', 'ip_reservations', 'subscriber_network_profiles')"
      " AND c.relkind IN ('r', 'p') AND n.nspname = coalesce(nullif($1, ''), current_schema())"
      // A ledger of ours has tables of the same names.
      " AND NOT EXISTS (SELECT 1 FROM pg_class o WHERE o.relnamespace = n.oid"
      "   AND o.relname = 'routing_domains')"
      " LIMIT 1",
      named);
  if (found.empty()) {
    if (!named.empty())
      throw LedgerError{ErrorCode::kInvalidArgument,
                        "from: the schema has none of the platform's tables: " + named};
    return std::nullopt;
  }
  return found[0][0].c_str();
}

LegacyReport Legacy::judge(const std::string& schema, const MigrateOptions& options) {
  const auto has = [&](const std::string& table) {
    return !tx_.exec("SELECT to_regclass('" + tx_.esc(schema + "." + table) + "')")[0][0].is_null();
  };
  tx_.exec(kTools);
  if (has("ip_pools")) tx_.exec(with_schema(kReadPools, schema));
  for (const PoolPrefix& pool : options.pools) {
    const auto changed = tx_.exec_params(
        "UPDATE lf_pools SET prefix = network($3::inet) WHERE tenant = $1 AND name = $2",
        pool.tenant, pool.name, pool.prefix);
    if (changed.affected_rows() == 0)
      tx_.exec_params(
          "INSERT INTO lf_pools (tenant, name, prefix) VALUES ($1, $2, network($3::inet))",
          pool.tenant, pool.name, pool.prefix);
  }
  for (const PoolVrf& pool : options.vrfs) {
    const auto changed =
        tx_.exec_params("UPDATE lf_pools SET vrf = $3 WHERE tenant = $1 AND name = $2", pool.tenant,
                        pool.name, pool.vrf_id);
    if (changed.affected_rows() == 0)
      tx_.exec_params("INSERT INTO lf_problems VALUES ($1)",
                      fmt::format("vrf: tenant {} has no pool {}", pool.tenant, pool.name));
  }
  if (has("ip_reservations")) tx_.exec(with_schema(kReadReservations, schema));
  if (has("subscriber_network_profiles")) tx_.exec(with_schema(kReadProfiles, schema));
  tx_.exec(kJudgePools);
  tx_.exec(kJudgeRows);

  LegacyReport report;
  report.schema = schema;
  report.shape = tx_.exec_params(
                        "SELECT coalesce((SELECT 'lifecycle' FROM pg_attribute WHERE attrelid ="
                        " to_regclass($1 || '.ip_reservations') AND attname = 'lifecycle_state'"
                        " AND NOT attisdropped), 'status')",
                        schema)[0][0]
                     .c_str();
  report.counts.emplace_back("pools", count("SELECT count(*) FROM lf_pools"));
  for (const auto& row : tx_.exec(
           "SELECT source || ', ' || CASE fate WHEN 'live' THEN state WHEN 'aside' THEN"
           " 'put aside' WHEN 'history' THEN 'former holders' WHEN 'skipped' THEN"
           " 'neither live nor whole' ELSE fate END, count(*) FROM lf_rows GROUP BY 1 ORDER BY 1"))
    report.counts.emplace_back(row[0].c_str(), row[1].as<std::int64_t>());
  for (const auto& row :
       tx_.exec("SELECT source, legacy_id, coalesce(tenant, ''), coalesce(subscriber, ''),"
                " coalesce(text(space), ''), why FROM lf_rows WHERE fate = 'aside' ORDER BY n"))
    report.set_aside.push_back({.table = row[0].c_str(),
                                .id = row[1].c_str(),
                                .tenant = row[2].c_str(),
                                .subscriber = row[3].c_str(),
                                .space = row[4].c_str(),
                                .why = row[5].c_str()});
  for (const auto& row : tx_.exec("SELECT what FROM lf_problems"))
    report.problems.emplace_back(row[0].c_str());
  // In the ledger's own schema the old tables move, anything else in the way stays.
  for (const char* name : kOwnNames) {
    const bool taken = !tx_.exec_params(
                               "SELECT 1 FROM pg_class WHERE relname = $1 AND relnamespace"
                               " = current_schema()::regnamespace",
                               name)
                            .empty();
    if (taken)
      report.problems.push_back(fmt::format(
          "the schema has a table {} that is not the ledger's: give the ledger a schema of its own"
          " and name the platform's with --from",
          name));
  }
  return report;
}

void Legacy::move_away(const std::string& schema) {
  tx_.exec(kMakeSidelines);
  const bool move =
      count("SELECT (quote_ident(current_schema()) = " + tx_.quote(schema) + ")::integer") == 1;
  tx_.exec_params("INSERT INTO addrflow_legacy.takeover (schema, moved) VALUES ($1, $2)", schema,
                  move);
  if (!move) return;
  for (const char* table : kTables)
    tx_.exec(fmt::format("ALTER TABLE IF EXISTS {}.{} SET SCHEMA {}", schema, table, kSchema));
  for (const char* type : kTypes) {
    const bool present =
        count(fmt::format("SELECT count(*) FROM pg_type WHERE oid = to_regtype('{}.{}')", schema,
                          type)) > 0;
    if (present) tx_.exec(fmt::format("ALTER TYPE {}.{} SET SCHEMA {}", schema, type, kSchema));
  }
}

void Legacy::import(const MigrateOptions& options) {
  if (count("SELECT count(*) FROM services") > 0)
    throw LedgerError{ErrorCode::kConflict,
                      "the ledger has services already: the platform's tables can be taken over by"
                      " an empty one only"};
  const auto takeover = tx_.exec("SELECT schema, moved FROM addrflow_legacy.takeover");
  const std::string source = takeover[0][1].as<bool>() ? kSchema : takeover[0][0].c_str();
  tx_.exec(kImportPools);
  tx_.exec(kImportServices);
  tx_.exec_params(kImportBindings, static_cast<std::int64_t>(options.grace.count()));
  tx_.exec(kImportHoldings);
  const bool of_family = count(
                             "SELECT count(*) FROM pg_attribute WHERE attrelid = 'holds'::regclass"
                             " AND attname = 'family'") > 0;
  tx_.exec(filled(kImportHolds, "@family@", of_family ? ", family" : ""));
  tx_.exec(kImportSpace);
  const bool profiles = !tx_.exec("SELECT to_regclass('" +
                                  tx_.esc(source + ".subscriber_network_profiles") + "')")[0][0]
                             .is_null();
  if (profiles) tx_.exec(with_schema(kImportProfiles, source));
}

void Legacy::write_back(bool discard_new) {
  const auto unknown = count(
      "SELECT count(*) FROM holdings WHERE upper_inf(period) AND NOT EXISTS (SELECT 1 FROM"
      " ip_reservations r JOIN addrflow_legacy.imported i ON i.reservation_id = r.id"
      " WHERE r.holding_id = holdings.id)");
  if (unknown > 0 && !discard_new)
    throw LedgerError{
        ErrorCode::kConflict,
        fmt::format("{} bindings are newer than the take-over and have no row in the platform's"
                    " tables: revoke them, or lose them with --discard-new",
                    unknown)};
  const auto takeover = tx_.exec("SELECT schema, moved FROM addrflow_legacy.takeover");
  const std::string source = takeover[0][1].as<bool>() ? kSchema : takeover[0][0].c_str();
  const auto has = [&](const std::string& table, const std::string& column) {
    return count("SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(" +
                 tx_.quote(source + "." + table) + ") AND attname = " + tx_.quote(column) +
                 " AND NOT attisdropped") > 0;
  };
  tx_.exec(kPresent);
  const auto copy = [&](const std::string& table,
                        const std::vector<std::pair<std::string, std::string>>& columns) {
    std::string set;
    for (const auto& [column, value] : columns) {
      if (!has(table, column)) continue;
      // An enum may have its labels in capitals: the names of the platform's Python members.
      const auto type = tx_.exec(
          "SELECT format_type(atttypid, NULL), EXISTS (SELECT 1 FROM pg_enum WHERE enumtypid"
          " = atttypid AND enumlabel IN ('ASSIGNED', 'ACTIVE')) FROM pg_attribute"
          " WHERE attrelid = to_regclass(" +
          tx_.quote(source + "." + table) + ") AND attname = " + tx_.quote(column));
      set += fmt::format("{}{} = {}(({})::text)::{}", set.empty() ? "" : ", ", column,
                         type[0][1].as<bool>() ? "upper" : "", value, type[0][0].c_str());
    }
    if (set.empty() || !has(table, "id")) return;
    tx_.exec(
        fmt::format("UPDATE {}.{} t SET {} FROM lf_present p WHERE p.source = '{}'"
                    " AND p.legacy_id = t.id::text",
                    source, table, set, table));
  };
  copy("ip_reservations", {{"status", "p.status"},
                           {"lifecycle_state", "p.state"},
                           {"lifecycle_allocated_at", "p.lifecycle_allocated_at"},
                           {"lifecycle_activated_at", "p.lifecycle_activated_at"},
                           {"lifecycle_suspended_at", "p.lifecycle_suspended_at"},
                           {"lifecycle_revoked_at", "p.lifecycle_revoked_at"}});
  copy("subscriber_network_profiles", {{"ipv6_state", "p.state"},
                                       {"ipv6_allocated_at", "p.lifecycle_allocated_at"},
                                       {"ipv6_activated_at", "p.lifecycle_activated_at"},
                                       {"ipv6_revoked_at", "p.lifecycle_revoked_at"}});
}

void Legacy::move_back() {
  const auto takeover = tx_.exec("SELECT schema, moved FROM addrflow_legacy.takeover");
  const std::string schema = takeover[0][0].c_str();
  if (takeover[0][1].as<bool>()) {
    for (const char* type : kTypes) {
      const bool present =
          count(fmt::format("SELECT count(*) FROM pg_type WHERE oid = to_regtype('{}.{}')", kSchema,
                            type)) > 0;
      if (present) tx_.exec(fmt::format("ALTER TYPE {}.{} SET SCHEMA {}", kSchema, type, schema));
    }
    for (const char* table : kTables)
      tx_.exec(fmt::format("ALTER TABLE IF EXISTS {}.{} SET SCHEMA {}", kSchema, table, schema));
  }
  tx_.exec(
      "DROP TABLE addrflow_legacy.takeover, addrflow_legacy.imported, addrflow_legacy.set_aside");
  tx_.exec("DROP SCHEMA addrflow_legacy");
}

}  // namespace addrflow::ledger

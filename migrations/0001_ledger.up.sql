-- The ledger: tenants, pools, services, holdings, operations and effects, for both address families from the start.

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- Roles belong to the whole cluster, so another database may have made them, perhaps at this moment.
DO $roles$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['addrflow_app', 'addrflow_audit'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    IF NOT pg_has_role(current_user, name, 'MEMBER') THEN
      EXECUTE format('GRANT %I TO %I', name, current_user);
    END IF;
  END LOOP;
END
$roles$;

CREATE TYPE lifecyclestate AS ENUM
  ('pending', 'allocated', 'active', 'suspended', 'revoking', 'revoked', 'failed');
CREATE TYPE ipv6lifecyclestate AS ENUM
  ('pending', 'allocated', 'active', 'suspended', 'revoking', 'revoked', 'failed');

CREATE TABLE tenants (
  tenant_id text PRIMARY KEY CHECK (tenant_id ~ '^[A-Za-z0-9._-]{1,64}$'),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Where an address means one thing: a VRF, a virtual router.
CREATE TABLE routing_domains (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  netbox_vrf_id bigint
);
INSERT INTO routing_domains (name) VALUES ('default');

CREATE TABLE ip_pools (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id text NOT NULL REFERENCES tenants,
  pool_name text NOT NULL,
  family text NOT NULL DEFAULT 'ipv4' CHECK (family IN ('ipv4', 'ipv6_pd', 'ipv6_wan')),
  routing_domain_id bigint NOT NULL REFERENCES routing_domains,
  prefix cidr NOT NULL,
  gateway inet,
  quarantine_s bigint NOT NULL DEFAULT 3600 CHECK (quarantine_s >= 0),
  hold_time_s bigint NOT NULL DEFAULT 86400 CHECK (hold_time_s >= 0),
  netbox_mode text NOT NULL DEFAULT 'mirror' CHECK (netbox_mode IN ('mirror', 'authoritative', 'off')),
  netbox_prefix_id bigint,
  -- Rolled up; an allocation neither reads nor locks them.
  total_addresses bigint NOT NULL DEFAULT 0,
  assigned_count bigint NOT NULL DEFAULT 0,
  available_count bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (tenant_id, pool_name),
  EXCLUDE USING gist (routing_domain_id WITH =, prefix inet_ops WITH &&)
);

CREATE TABLE pool_grants (
  pool_id uuid NOT NULL REFERENCES ip_pools,
  tenant_id text NOT NULL REFERENCES tenants,
  PRIMARY KEY (pool_id, tenant_id)
);
CREATE INDEX pool_grants_tenant ON pool_grants (tenant_id);

CREATE TABLE pool_exclusions (
  pool_id uuid NOT NULL REFERENCES ip_pools,
  space inet NOT NULL,
  reason text NOT NULL DEFAULT '',
  PRIMARY KEY (pool_id, space)
);

-- One row an address. `free` and free_after over: it may be handed out.
CREATE TABLE pool_addresses (
  pool_id uuid NOT NULL REFERENCES ip_pools,
  address inet NOT NULL,
  state text NOT NULL DEFAULT 'free' CHECK (state IN ('free', 'held', 'blocked')),
  free_after timestamptz NOT NULL DEFAULT '-infinity',
  last_end timestamptz NOT NULL DEFAULT '-infinity',
  last_service_id bigint,
  why text NOT NULL DEFAULT '',
  PRIMARY KEY (pool_id, address)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX pool_addresses_free ON pool_addresses (pool_id, free_after, address) WHERE state = 'free';
CREATE INDEX pool_addresses_former ON pool_addresses (last_service_id) WHERE state = 'free';

CREATE TABLE nas (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL REFERENCES tenants,
  name text NOT NULL,
  nas_ip inet NOT NULL,
  coa_host text NOT NULL,
  coa_port integer NOT NULL DEFAULT 3799 CHECK (coa_port BETWEEN 1 AND 65535),
  dialect text NOT NULL DEFAULT 'rfc5176',
  secret_ref text NOT NULL CHECK (secret_ref ~ '^(env|file):.'),
  nas_identifier text NOT NULL DEFAULT '',
  interim_interval_s bigint NOT NULL DEFAULT 300 CHECK (interim_interval_s > 0),
  UNIQUE (tenant_id, nas_ip)
);

-- The head row of a service. Nothing ever deletes it: its number is the fence.
CREATE TABLE services (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL REFERENCES tenants,
  subscriber_id text NOT NULL,
  service text NOT NULL,
  number bigint NOT NULL DEFAULT 0,
  open_operation_id bigint,
  last_operation_id bigint,
  generation bigint NOT NULL DEFAULT 0,
  username text NOT NULL DEFAULT '',
  former_usernames text[] NOT NULL DEFAULT '{}',
  nas_ip text NOT NULL DEFAULT '',
  plan text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (tenant_id, subscriber_id, service)
);
CREATE INDEX services_username ON services (username) WHERE username <> '';
CREATE INDEX services_open ON services (id) WHERE open_operation_id IS NOT NULL;

CREATE TABLE holds (
  service_id bigint NOT NULL REFERENCES services,
  tenant_id text NOT NULL,
  reason text NOT NULL,
  actor text NOT NULL,
  since timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (service_id, reason)
);

CREATE TABLE operations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  subscriber_id text NOT NULL,
  service text NOT NULL,
  service_id bigint NOT NULL REFERENCES services,
  key text NOT NULL,
  request_hash text NOT NULL,
  operation text NOT NULL,
  request jsonb NOT NULL DEFAULT '{}',
  number bigint NOT NULL,
  phase text NOT NULL DEFAULT 'open' CHECK (phase IN ('open', 'finished')),
  before jsonb NOT NULL DEFAULT '{}',  -- what the service was when the operation claimed it
  outcome jsonb,
  actor text NOT NULL DEFAULT '',
  reason text NOT NULL DEFAULT '',
  workflow_id text NOT NULL DEFAULT '',
  run_id text NOT NULL DEFAULT '',
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  UNIQUE (tenant_id, subscriber_id, service, key)
);
ALTER TABLE services ADD FOREIGN KEY (open_operation_id) REFERENCES operations;

-- What a step of an operation answered: the same step again answers the same.
CREATE TABLE operation_steps (
  operation_id bigint NOT NULL REFERENCES operations,
  tenant_id text NOT NULL,
  step text NOT NULL,
  reply jsonb NOT NULL,
  PRIMARY KEY (operation_id, step)
);

CREATE TABLE compositions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  subscriber_id text NOT NULL,
  service text NOT NULL,
  key text NOT NULL,
  kind text NOT NULL,
  request_hash text NOT NULL,
  workflow_id text NOT NULL,
  run_id text NOT NULL,
  phase text NOT NULL DEFAULT 'open' CHECK (phase IN ('open', 'finished', 'abandoned')),
  outcome jsonb,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  UNIQUE (tenant_id, subscriber_id, service, key)
);
CREATE UNIQUE INDEX compositions_open ON compositions (tenant_id, subscriber_id, service) WHERE phase = 'open';

-- Who held which space from when to when. Append-only: a row is closed, never changed otherwise, never deleted.
CREATE TABLE holdings (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  subscriber_id text NOT NULL,
  service text NOT NULL,
  service_id bigint NOT NULL,
  family text NOT NULL,
  slot integer NOT NULL DEFAULT 0,
  generation bigint NOT NULL,
  routing_domain_id bigint NOT NULL,
  pool_id uuid NOT NULL,
  space inet NOT NULL,
  ports int4range NOT NULL DEFAULT '[0,65536)',
  period tstzrange NOT NULL,
  exposed boolean NOT NULL DEFAULT false,    -- AAA may have handed it out
  releasing boolean NOT NULL DEFAULT false,
  releasing_since timestamptz,
  kept boolean NOT NULL DEFAULT false,       -- stays reserved for its subscriber after a revoke
  forced boolean NOT NULL DEFAULT false,
  evidence text NOT NULL DEFAULT '',
  opened_by bigint NOT NULL,
  closed_by bigint,
  CONSTRAINT holdings_no_overlap EXCLUDE USING gist
    (routing_domain_id WITH =, space inet_ops WITH &&, ports WITH &&, period WITH &&)
);
CREATE INDEX holdings_open ON holdings (service_id, family) WHERE upper_inf(period);
CREATE INDEX holdings_open_space ON holdings (pool_id, space) WHERE upper_inf(period);

CREATE FUNCTION holdings_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'holdings are never deleted';
  END IF;
  IF NOT upper_inf(OLD.period) OR (NEW.tenant_id, NEW.service_id, NEW.space, NEW.ports,
      NEW.routing_domain_id, lower(NEW.period)) IS DISTINCT FROM (OLD.tenant_id, OLD.service_id,
      OLD.space, OLD.ports, OLD.routing_domain_id, lower(OLD.period)) THEN
    RAISE EXCEPTION 'holdings are only ever closed';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER holdings_append_only BEFORE UPDATE OR DELETE ON holdings
  FOR EACH ROW EXECUTE FUNCTION holdings_are_append_only();

-- The working rows: one a binding and generation.
CREATE TABLE ip_reservations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  subscriber_id text NOT NULL,
  service text NOT NULL,
  service_id bigint NOT NULL REFERENCES services,
  family text NOT NULL DEFAULT 'ipv4',
  slot integer NOT NULL DEFAULT 0,
  generation bigint NOT NULL DEFAULT 1,
  pool_id uuid NOT NULL REFERENCES ip_pools,
  ip_address inet NOT NULL,
  holding_id bigint,
  netbox_ip_id bigint,
  netbox_key text NOT NULL DEFAULT '',
  created_by text NOT NULL DEFAULT '',
  created_by_operation bigint NOT NULL,
  lifecycle_state lifecyclestate NOT NULL DEFAULT 'pending',
  lifecycle_allocated_at timestamptz,
  lifecycle_activated_at timestamptz,
  lifecycle_suspended_at timestamptz,
  lifecycle_revoked_at timestamptz,
  lifecycle_metadata jsonb DEFAULT '{}',
  revoking_since timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX ip_reservations_one_live ON ip_reservations (service_id, family, slot)
  WHERE lifecycle_state <> 'revoked';
CREATE INDEX ip_reservations_service ON ip_reservations (service_id, family, generation DESC);
CREATE INDEX ip_reservations_holding ON ip_reservations (holding_id);
CREATE INDEX idx_ip_reservations_lifecycle_state ON ip_reservations (lifecycle_state);
CREATE INDEX idx_ip_reservations_lifecycle_allocated_at ON ip_reservations (lifecycle_allocated_at)
  WHERE lifecycle_allocated_at IS NOT NULL;
CREATE INDEX idx_ip_reservations_tenant_state ON ip_reservations (tenant_id, lifecycle_state);

CREATE TABLE subscriber_network_profiles (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL REFERENCES tenants,
  subscriber_id text NOT NULL,
  vlan integer,
  static_ipv4 inet,
  ipv6_assignment_mode text NOT NULL DEFAULT 'none'
    CHECK (ipv6_assignment_mode IN ('none', 'slaac', 'stateful', 'pd', 'dual_stack')),
  ipv6_prefix cidr,
  ipv6_state ipv6lifecyclestate NOT NULL DEFAULT 'pending',
  ipv6_allocated_at timestamptz,
  ipv6_activated_at timestamptz,
  ipv6_suspended_at timestamptz,
  ipv6_revoked_at timestamptz,
  ipv6_netbox_prefix_id bigint,
  UNIQUE (tenant_id, subscriber_id)
);
CREATE INDEX subscriber_network_profiles_netbox ON subscriber_network_profiles (ipv6_netbox_prefix_id);

CREATE TABLE effects (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  service_id bigint NOT NULL REFERENCES services,
  operation_id bigint NOT NULL,
  number bigint NOT NULL,
  system text NOT NULL CHECK (system IN ('aaa', 'radius', 'netbox', 'notify')),
  action text NOT NULL,
  object text NOT NULL DEFAULT '',  -- NetBox: the object's key; the newest wish supersedes older ones
  wish jsonb NOT NULL,
  status text NOT NULL DEFAULT 'planned' CHECK (status IN
    ('planned', 'sent', 'confirmed', 'refused', 'unknown', 'superseded', 'not_applicable', 'abandoned')),
  attempts integer NOT NULL DEFAULT 0,
  hard_deadline timestamptz,
  not_before timestamptz NOT NULL DEFAULT '-infinity',
  code text NOT NULL DEFAULT '',
  detail text NOT NULL DEFAULT '',
  reply jsonb,
  planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  sent_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX effects_service ON effects (service_id, id);
CREATE INDEX effects_due ON effects (not_before) WHERE status IN ('planned', 'sent', 'unknown');

-- A key that was released before anybody had heard of it: a late request under it fails.
CREATE TABLE tombstones (
  tenant_id text NOT NULL,
  subscriber_id text NOT NULL,
  service text NOT NULL,
  key text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, subscriber_id, service, key)
);

CREATE TABLE quarantines (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  service_id bigint NOT NULL,
  pool_id uuid NOT NULL,
  space inet NOT NULL,
  since timestamptz NOT NULL,
  until timestamptz NOT NULL,
  why text NOT NULL
);

CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  tenant_id text NOT NULL,
  subscriber_id text NOT NULL DEFAULT '',
  service text NOT NULL DEFAULT '',
  event text NOT NULL,
  actor text NOT NULL DEFAULT '',
  address inet,
  pool_id uuid,
  code text NOT NULL DEFAULT '',
  detail text NOT NULL DEFAULT ''
);
CREATE INDEX audit_log_subscriber ON audit_log (tenant_id, subscriber_id, at);

-- Usernames are unique in the AAA database, over all tenants: so the question looks past row-level security, and
-- answers yes or no only.
CREATE FUNCTION username_taken(own bigint, name text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT EXISTS (
    SELECT 1 FROM services s WHERE s.username = name AND s.id <> own AND (
      EXISTS (SELECT 1 FROM ip_reservations r WHERE r.service_id = s.id AND r.lifecycle_state <> 'revoked')
      OR EXISTS (SELECT 1 FROM holdings h WHERE h.service_id = s.id AND upper_inf(h.period))))
$$;

-- Row-level security: the app role sees and moves the rows of the transaction's tenant (setting app.tenant) only.
CREATE FUNCTION app_tenant() RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT nullif(current_setting('app.tenant', true), '') $$;

DO $rls$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['nas', 'services', 'holds', 'operations', 'operation_steps', 'compositions', 'holdings',
      'ip_reservations', 'subscriber_network_profiles', 'effects', 'tombstones', 'quarantines', 'audit_log'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY app ON %I TO addrflow_app USING (tenant_id = app_tenant())
                    WITH CHECK (tenant_id = app_tenant())', name);
    EXECUTE format('CREATE POLICY audit ON %I FOR SELECT TO addrflow_audit USING (true)', name);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO addrflow_app', name);
    EXECUTE format('GRANT SELECT ON %I TO addrflow_audit', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['services', 'operations', 'compositions', 'holdings', 'ip_reservations',
      'subscriber_network_profiles', 'effects'] LOOP
    EXECUTE format('GRANT UPDATE ON %I TO addrflow_app', name);
  END LOOP;
END
$rls$;
GRANT DELETE ON holds, ip_reservations TO addrflow_app;
GRANT UPDATE ON holds TO addrflow_app;

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY app ON tenants FOR SELECT TO addrflow_app USING (tenant_id = app_tenant());
CREATE POLICY audit ON tenants FOR SELECT TO addrflow_audit USING (true);
ALTER TABLE pool_grants ENABLE ROW LEVEL SECURITY;
CREATE POLICY app ON pool_grants FOR SELECT TO addrflow_app USING (tenant_id = app_tenant());
CREATE POLICY audit ON pool_grants FOR SELECT TO addrflow_audit USING (true);
ALTER TABLE ip_pools ENABLE ROW LEVEL SECURITY;
CREATE POLICY app ON ip_pools FOR SELECT TO addrflow_app
  USING (EXISTS (SELECT 1 FROM pool_grants g WHERE g.pool_id = id));
CREATE POLICY audit ON ip_pools FOR SELECT TO addrflow_audit USING (true);
ALTER TABLE pool_addresses ENABLE ROW LEVEL SECURITY;
CREATE POLICY app ON pool_addresses TO addrflow_app
  USING (EXISTS (SELECT 1 FROM pool_grants g WHERE g.pool_id = pool_addresses.pool_id));
CREATE POLICY audit ON pool_addresses FOR SELECT TO addrflow_audit USING (true);
GRANT SELECT ON tenants, pool_grants, ip_pools, pool_addresses, routing_domains, pool_exclusions
  TO addrflow_app, addrflow_audit;
GRANT UPDATE ON pool_addresses TO addrflow_app;
REVOKE ALL ON FUNCTION username_taken(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION username_taken(bigint, text) TO addrflow_app;

-- Lines that change as they live: another NAS, username, plan or address.

-- While a line moves from one prefix to another it has two rows. The one that it lives with is what the profile says,
-- also where the newer one was taken back.
CREATE OR REPLACE FUNCTION show_prefix_in_profile(own_service_id bigint, own_tenant text, own_subscriber text)
  RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  newest ip_reservations%ROWTYPE;
  gone boolean;
BEGIN
  SELECT * INTO newest FROM ip_reservations r
    WHERE r.service_id = own_service_id AND r.family = 'ipv6_pd' AND r.slot = 0
    ORDER BY (r.lifecycle_state = 'revoked'), r.generation DESC, r.id DESC LIMIT 1;
  IF NOT FOUND THEN
    UPDATE subscriber_network_profiles SET ipv6_prefix = NULL, ipv6_state = 'pending', ipv6_allocated_at = NULL,
      ipv6_activated_at = NULL, ipv6_suspended_at = NULL, ipv6_revoked_at = NULL, ipv6_netbox_prefix_id = NULL
      WHERE tenant_id = own_tenant AND subscriber_id = own_subscriber;
    RETURN;
  END IF;
  gone := newest.lifecycle_state = 'revoked';
  INSERT INTO subscriber_network_profiles AS p (tenant_id, subscriber_id, ipv6_assignment_mode, ipv6_prefix,
      ipv6_state, ipv6_allocated_at, ipv6_activated_at, ipv6_suspended_at, ipv6_revoked_at, ipv6_netbox_prefix_id)
    VALUES (own_tenant, own_subscriber,
      CASE WHEN EXISTS (SELECT 1 FROM ip_reservations r WHERE r.service_id = own_service_id AND r.family = 'ipv4'
                        AND r.lifecycle_state <> 'revoked') THEN 'dual_stack' ELSE 'pd' END,
      CASE WHEN gone THEN NULL ELSE newest.ip_address::cidr END,
      newest.lifecycle_state::text::ipv6lifecyclestate, newest.lifecycle_allocated_at, newest.lifecycle_activated_at,
      newest.lifecycle_suspended_at, newest.lifecycle_revoked_at,
      CASE WHEN gone THEN NULL ELSE newest.netbox_ip_id END)
    ON CONFLICT (tenant_id, subscriber_id) DO UPDATE SET ipv6_prefix = excluded.ipv6_prefix,
      ipv6_state = excluded.ipv6_state, ipv6_allocated_at = excluded.ipv6_allocated_at,
      ipv6_activated_at = excluded.ipv6_activated_at, ipv6_suspended_at = excluded.ipv6_suspended_at,
      ipv6_revoked_at = excluded.ipv6_revoked_at, ipv6_netbox_prefix_id = excluded.ipv6_netbox_prefix_id;
END
$$;

-- A username that a line has left may still have its session. Until the NAS, or accounting, says that it is cut, nobody
-- else gets the name: their sessions could not be told apart. Looks past row-level security, as username_taken does.
CREATE INDEX services_former_usernames ON services USING gin (former_usernames) WHERE former_usernames <> '{}';
CREATE FUNCTION username_leaving(own bigint, name text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT EXISTS (
    SELECT 1 FROM services s JOIN effects e ON e.service_id = s.id AND e.number = s.number
    WHERE s.former_usernames @> ARRAY[name] AND s.former_usernames <> '{}' AND s.id <> own
      AND e.system = 'radius' AND e.action = 'disconnect' AND e.status IN ('planned', 'sent', 'unknown', 'refused'))
$$;
REVOKE ALL ON FUNCTION username_leaving(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION username_leaving(bigint, text) TO addrflow_app;

-- The former usernames under which a session of the line may run. One that somebody else has by now is theirs: their
-- session is not to be cut, and says nothing of this line.
CREATE FUNCTION former_names(own bigint) RETURNS text[] LANGUAGE sql STABLE AS $$
  SELECT ARRAY(SELECT n FROM services s, unnest(s.former_usernames) WITH ORDINALITY u(n, i)
               WHERE s.id = own AND NOT username_taken(own, n) ORDER BY i)
$$;

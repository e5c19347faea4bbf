-- Both families in one service: holds of each family, what restricts the session while only one of them is suspended,
-- and the seeds' profile as the working row of the default service's prefix.

ALTER TABLE services ADD COLUMN restrict_when text NOT NULL DEFAULT 'any' CHECK (restrict_when IN ('any', 'all'));

ALTER TABLE holds ADD COLUMN family text NOT NULL DEFAULT 'ipv4';
ALTER TABLE holds ALTER COLUMN family DROP DEFAULT;
ALTER TABLE holds DROP CONSTRAINT holds_pkey;
ALTER TABLE holds ADD PRIMARY KEY (service_id, family, reason);

-- What the operation moves: a repeat of its claim means the same families, whatever has changed since.
ALTER TABLE operations ADD COLUMN families text[] NOT NULL DEFAULT '{ipv4}';
ALTER TABLE operations ADD COLUMN left_out text NOT NULL DEFAULT '';

-- subscriber_network_profiles carries the prefix of the service `internet` in the seeds' columns. The newest row of
-- ip_reservations is what it says; when cleanup has deleted that row, its IPv6 columns are reset and the rest stays.
CREATE FUNCTION show_prefix_in_profile(own_service_id bigint, own_tenant text, own_subscriber text)
  RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  newest ip_reservations%ROWTYPE;
  gone boolean;
BEGIN
  SELECT * INTO newest FROM ip_reservations r
    WHERE r.service_id = own_service_id AND r.family = 'ipv6_pd' AND r.slot = 0
    ORDER BY r.generation DESC, r.id DESC LIMIT 1;
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

CREATE FUNCTION prefix_row_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    PERFORM show_prefix_in_profile(OLD.service_id, OLD.tenant_id, OLD.subscriber_id);
  ELSE
    PERFORM show_prefix_in_profile(NEW.service_id, NEW.tenant_id, NEW.subscriber_id);
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER ip_reservations_prefix_set AFTER INSERT OR UPDATE ON ip_reservations
  FOR EACH ROW WHEN (NEW.family = 'ipv6_pd' AND NEW.service = 'internet' AND NEW.slot = 0)
  EXECUTE FUNCTION prefix_row_changed();
CREATE TRIGGER ip_reservations_prefix_gone AFTER DELETE ON ip_reservations
  FOR EACH ROW WHEN (OLD.family = 'ipv6_pd' AND OLD.service = 'internet' AND OLD.slot = 0)
  EXECUTE FUNCTION prefix_row_changed();

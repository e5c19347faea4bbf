DROP FUNCTION former_names(bigint);
DROP FUNCTION username_leaving(bigint, text);
DROP INDEX services_former_usernames;
CREATE OR REPLACE FUNCTION show_prefix_in_profile(own_service_id bigint, own_tenant text, own_subscriber text)
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

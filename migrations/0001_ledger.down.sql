-- Takes the whole ledger away. The roles stay: they belong to the cluster, and other databases may use them.
ALTER TABLE services DROP COLUMN open_operation_id;
DROP TABLE audit_log, quarantines, tombstones, effects, subscriber_network_profiles, ip_reservations, holdings,
  compositions, operation_steps, operations, holds, services, nas, pool_addresses, pool_exclusions, pool_grants,
  ip_pools, routing_domains, tenants;
DROP FUNCTION app_tenant();
DROP FUNCTION holdings_are_append_only();
DROP FUNCTION username_taken(bigint, text);
DROP TYPE ipv6lifecyclestate;
DROP TYPE lifecyclestate;

-- A username that a line has left is held until its session is known to be cut.

-- Whether a line has, or may still have, anything to use a name for.
CREATE FUNCTION username_held(own bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT 1 FROM ip_reservations r WHERE r.service_id = own AND r.lifecycle_state <> 'revoked')
    OR EXISTS (SELECT 1 FROM holdings h WHERE h.service_id = own AND upper_inf(h.period))
$$;

-- An operation that takes a name from a line says so (`before`, key `left`): a rename the former one, an undo the one that
-- AAA may have let in. Until a Disconnect for that name has been answered, whichever operation sent it, nobody else gets
-- it. Where none was wished the hold time of the line's space has to do. A line that holds nothing holds no name, and
-- what a line rightly has by now is not taken from it. Looks past row-level security, as username_taken does.
CREATE OR REPLACE FUNCTION username_leaving(own bigint, name text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT EXISTS (
    SELECT 1 FROM services s, LATERAL (
      SELECT o.id, o.started_at FROM operations o WHERE o.service_id = s.id AND o.before->>'left' = name
      ORDER BY o.id DESC LIMIT 1) o
    WHERE s.former_usernames @> ARRAY[name] AND s.former_usernames <> '{}' AND s.id <> own
      AND username_held(s.id)
      AND NOT EXISTS (SELECT 1 FROM services m WHERE m.id = own AND m.username = name AND username_held(own))
      AND NOT EXISTS (
        SELECT 1 FROM effects n WHERE n.service_id = s.id AND n.operation_id >= o.id AND n.system = 'radius'
          AND n.action = 'disconnect' AND n.status IN ('confirmed', 'not_applicable', 'abandoned')
          AND (n.wish->>'session_username' = name OR n.wish->'former_usernames' ? name))
      AND (s.open_operation_id = o.id
        OR EXISTS (SELECT 1 FROM effects e WHERE e.service_id = s.id AND e.operation_id = o.id
                   AND e.system = 'radius' AND e.action = 'disconnect'
                   AND (e.wish->>'session_username' = name OR e.wish->'former_usernames' ? name))
        OR clock_timestamp() < o.started_at + (
          SELECT max(p.hold_time_s) FROM holdings h JOIN ip_pools p ON p.id = h.pool_id
          WHERE h.service_id = s.id AND upper_inf(h.period)) * interval '1 second'))
$$;

-- The renames that there were before this.
UPDATE operations SET before = before || jsonb_build_object('left', before->>'username')
  WHERE operation = 'rebind' AND coalesce(outcome->>'success', 'true') = 'true';

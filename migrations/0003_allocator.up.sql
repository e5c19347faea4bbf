-- The allocator: prefixes that are not written down before they are used, groups of pools, pools of one site, drain.

ALTER TABLE ip_pools
  ADD COLUMN delegated_length integer NOT NULL DEFAULT 32,  -- what a line gets; /32: one IPv4 address
  ADD COLUMN chunk_length integer NOT NULL DEFAULT 32,      -- the largest piece; shorter than the above: mixed sizes
  ADD COLUMN draining boolean NOT NULL DEFAULT false,
  ADD COLUMN pool_group text NOT NULL DEFAULT '',           -- pools of one group stand in for each other
  ADD COLUMN priority integer NOT NULL DEFAULT 100,         -- the lowest first
  ADD COLUMN counted_at timestamptz;
UPDATE ip_pools SET delegated_length = 56, chunk_length = 56 WHERE family <> 'ipv4';
ALTER TABLE ip_pools ADD CONSTRAINT ip_pools_lengths
  CHECK (chunk_length BETWEEN masklen(prefix) AND delegated_length);

-- A pool that is in here serves these NAS only.
CREATE TABLE pool_nas (
  pool_id uuid NOT NULL REFERENCES ip_pools,
  nas_ip inet NOT NULL,
  PRIMARY KEY (pool_id, nas_ip)
);

-- What was never handed out, as intervals of pieces of /chunk_length. Each has its own row, so that nobody waits.
CREATE TABLE pool_shards (
  pool_id uuid NOT NULL REFERENCES ip_pools,
  shard integer NOT NULL,
  next bigint NOT NULL,
  last bigint NOT NULL,
  PRIMARY KEY (pool_id, shard)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- A prefix of a pool with mixed sizes may be split in two, and these again.
ALTER TABLE pool_addresses DROP CONSTRAINT pool_addresses_state_check;
ALTER TABLE pool_addresses ADD CONSTRAINT pool_addresses_state_check
  CHECK (state IN ('free', 'held', 'blocked', 'split'));
DROP INDEX pool_addresses_free;
CREATE INDEX pool_addresses_free ON pool_addresses (pool_id, masklen(address), free_after, address)
  WHERE state = 'free';
DROP INDEX pool_addresses_former;
CREATE INDEX pool_addresses_former ON pool_addresses (last_service_id, pool_id, last_end) WHERE state = 'free';
CREATE INDEX pool_exclusions_space ON pool_exclusions USING gist (pool_id, space inet_ops);

ALTER TABLE pool_nas ENABLE ROW LEVEL SECURITY;
CREATE POLICY app ON pool_nas FOR SELECT TO addrflow_app
  USING (EXISTS (SELECT 1 FROM pool_grants g WHERE g.pool_id = pool_nas.pool_id));
CREATE POLICY audit ON pool_nas FOR SELECT TO addrflow_audit USING (true);
ALTER TABLE pool_shards ENABLE ROW LEVEL SECURITY;
CREATE POLICY audit ON pool_shards FOR SELECT TO addrflow_audit USING (true);
GRANT SELECT ON pool_nas TO addrflow_app, addrflow_audit;
GRANT SELECT ON pool_shards TO addrflow_audit;

-- The number of a piece: the upper half of its address without what lies behind the length. Signed, as bigint is: a
-- prefix never crosses the sign, so order holds inside a pool.
CREATE FUNCTION piece_number(space inet, length integer) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS
  $$ SELECT ('x' || substr(encode(inet_send(space), 'hex'), 9, 16))::bit(64)::bigint >> (64 - length) $$;
CREATE FUNCTION piece(number bigint, length integer) RETURNS inet LANGUAGE sql IMMUTABLE STRICT AS
  $$ SELECT (substr(h, 1, 4) || ':' || substr(h, 5, 4) || ':' || substr(h, 9, 4) || ':' || substr(h, 13, 4) || '::/'
             || length)::inet FROM (SELECT lpad(to_hex(number << (64 - length)), 16, '0') AS h) x $$;
CREATE FUNCTION lower_half(space inet) RETURNS inet LANGUAGE sql IMMUTABLE STRICT AS
  $$ SELECT set_masklen(space, masklen(space) + 1) $$;
CREATE FUNCTION upper_half(space inet) RETURNS inet LANGUAGE sql IMMUTABLE STRICT AS
  $$ SELECT network(set_masklen(broadcast(space), masklen(space) + 1))::inet $$;

-- The next piece that nobody ever had, marked held. The primary key decides between it and a request for that piece.
-- Not patient: shards that others have locked are passed over.
CREATE FUNCTION take_fresh(own_pool uuid, own_length integer, patient boolean) RETURNS inet LANGUAGE plpgsql AS $$
DECLARE
  found_shard pool_shards%ROWTYPE;
  first_shard integer := floor(random() * 64)::integer;
  candidate inet;
  excluded_to bigint;
BEGIN
  LOOP
    IF patient THEN
      SELECT * INTO found_shard FROM pool_shards WHERE pool_id = own_pool AND next <= last
        ORDER BY shard LIMIT 1 FOR UPDATE;
    ELSE
      SELECT * INTO found_shard FROM pool_shards WHERE pool_id = own_pool AND shard >= first_shard AND next <= last
        ORDER BY shard LIMIT 1 FOR UPDATE SKIP LOCKED;
      IF NOT FOUND THEN
        SELECT * INTO found_shard FROM pool_shards WHERE pool_id = own_pool AND shard < first_shard AND next <= last
          ORDER BY shard LIMIT 1 FOR UPDATE SKIP LOCKED;
      END IF;
    END IF;
    IF NOT FOUND THEN
      RETURN NULL;
    END IF;
    WHILE found_shard.next <= found_shard.last LOOP
      candidate := piece(found_shard.next, own_length);
      found_shard.next := found_shard.next + 1;
      SELECT max(piece_number(broadcast(e.space), own_length)) INTO excluded_to FROM pool_exclusions e
        WHERE e.pool_id = own_pool AND e.space && candidate;
      IF excluded_to IS NOT NULL THEN
        found_shard.next := excluded_to + 1;
        CONTINUE;
      END IF;
      INSERT INTO pool_addresses (pool_id, address, state) VALUES (own_pool, candidate, 'held')
        ON CONFLICT DO NOTHING;
      IF FOUND THEN
        UPDATE pool_shards SET next = found_shard.next WHERE pool_id = own_pool AND shard = found_shard.shard;
        RETURN candidate;
      END IF;
    END LOOP;
    UPDATE pool_shards SET next = found_shard.next WHERE pool_id = own_pool AND shard = found_shard.shard;
  END LOOP;
END
$$;

-- Divides `parent`, whose row is locked, until `target` has a row of its own. Parents stay, as `split`: their primary
-- key keeps the cursors out.
CREATE FUNCTION split_space(own_pool uuid, parent inet, target inet) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WHILE masklen(parent) < masklen(target) LOOP
    INSERT INTO pool_addresses (pool_id, address, last_end)
      SELECT own_pool, half, a.last_end FROM pool_addresses a,
        unnest(ARRAY[lower_half(parent), upper_half(parent)]) half
        WHERE a.pool_id = own_pool AND a.address = parent;
    UPDATE pool_addresses SET state = 'split' WHERE pool_id = own_pool AND address = parent;
    parent := CASE WHEN lower_half(parent) >>= target THEN lower_half(parent) ELSE upper_half(parent) END;
  END LOOP;
END
$$;

-- Halves that are both free and rested become one again. Rows that others have locked stay as they are.
CREATE FUNCTION join_space(own_pool uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  whole record;
  joined bigint := 0;
  halves bigint;
  moment timestamptz := clock_timestamp();
BEGIN
  FOR whole IN SELECT address FROM pool_addresses WHERE pool_id = own_pool AND state = 'split'
      ORDER BY masklen(address) DESC, address FOR UPDATE SKIP LOCKED LOOP
    SELECT count(*) INTO halves FROM (SELECT 1 FROM pool_addresses a WHERE a.pool_id = own_pool
      AND a.address IN (lower_half(whole.address), upper_half(whole.address))
      AND a.state = 'free' AND a.free_after <= moment FOR UPDATE SKIP LOCKED) locked;
    CONTINUE WHEN halves <> 2;
    WITH gone AS (DELETE FROM pool_addresses a WHERE a.pool_id = own_pool
        AND a.address IN (lower_half(whole.address), upper_half(whole.address)) RETURNING a.last_end)
      UPDATE pool_addresses SET state = 'free', free_after = '-infinity', last_service_id = NULL,
        last_end = (SELECT max(last_end) FROM gone) WHERE pool_id = own_pool AND address = whole.address;
    joined := joined + 1;
  END LOOP;
  RETURN joined;
END
$$;

CREATE FUNCTION may_use_pool(own_pool uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT 1 FROM pool_grants g WHERE g.pool_id = own_pool AND g.tenant_id = app_tenant())
$$;

-- Takes space of one pool and marks it held: the former one of the service, one that nobody ever had, or the one that
-- has rested for longest. Nothing found and `busy`: some is left, but others have it locked at the moment.
-- The planner has no say: a plan made while the pool was small would be kept when it is not.
CREATE FUNCTION take_space(own_pool uuid, own_service bigint, own_length integer, chunk integer, patient boolean,
    OUT space inet, OUT rested timestamptz, OUT method text, OUT busy boolean)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
  SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
  moment timestamptz := clock_timestamp();
  size integer := own_length;
BEGIN
  busy := false;
  IF NOT may_use_pool(own_pool) THEN
    RETURN;
  END IF;
  method := 'sticky';
  SELECT a.address, a.last_end INTO space, rested FROM pool_addresses a WHERE a.last_service_id = own_service
    AND a.state = 'free' AND a.pool_id = own_pool AND masklen(a.address) = own_length
    ORDER BY a.last_end DESC LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF space IS NULL AND chunk = own_length THEN
    method := 'auto';
    space := take_fresh(own_pool, chunk, patient);
    IF space IS NOT NULL THEN
      rested := '-infinity';
      RETURN;
    END IF;
  END IF;
  -- Of mixed sizes: one that fits, else the smallest larger one, and a whole new piece at last.
  WHILE space IS NULL AND size >= chunk LOOP
    method := 'auto';
    IF patient THEN
      SELECT a.address, a.last_end INTO space, rested FROM pool_addresses a WHERE a.pool_id = own_pool
        AND a.state = 'free' AND masklen(a.address) = size AND a.free_after <= moment
        ORDER BY a.free_after, a.address LIMIT 1 FOR UPDATE;
    ELSE
      SELECT a.address, a.last_end INTO space, rested FROM pool_addresses a WHERE a.pool_id = own_pool
        AND a.state = 'free' AND masklen(a.address) = size AND a.free_after <= moment
        ORDER BY a.free_after, a.address LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    size := size - 1;
  END LOOP;
  IF space IS NULL AND chunk < own_length THEN
    space := take_fresh(own_pool, chunk, patient);
    rested := '-infinity';
  END IF;
  IF space IS NULL THEN
    busy := EXISTS (SELECT 1 FROM pool_addresses a WHERE a.pool_id = own_pool AND a.state = 'free'
        AND masklen(a.address) BETWEEN chunk AND own_length AND a.free_after <= moment)
      OR EXISTS (SELECT 1 FROM pool_shards s WHERE s.pool_id = own_pool AND s.next <= s.last);
    RETURN;
  END IF;
  IF masklen(space) < own_length THEN
    PERFORM split_space(own_pool, space, set_masklen(space, own_length));
    space := set_masklen(space, own_length);
  END IF;
  UPDATE pool_addresses a SET state = 'held' WHERE a.pool_id = own_pool AND a.address = space;
END
$$;

-- Whether the service may have this very space; `take`: marks it held. Verdicts: ok, outside, excluded, blocked, held,
-- parts, quarantine.
CREATE FUNCTION request_space(own_pool uuid, own_service bigint, wanted inet, take boolean,
    OUT verdict text, OUT rested timestamptz, OUT why text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  pool ip_pools%ROWTYPE;
  row pool_addresses%ROWTYPE;
BEGIN
  verdict := 'outside';
  SELECT * INTO pool FROM ip_pools WHERE id = own_pool AND may_use_pool(own_pool);
  IF NOT FOUND OR NOT pool.prefix::inet >>= wanted THEN
    RETURN;
  END IF;
  IF take THEN  -- whoever excludes space waits for requests that have begun
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(own_pool::text, 14));
  END IF;
  SELECT e.reason INTO why FROM pool_exclusions e WHERE e.pool_id = own_pool AND e.space && wanted LIMIT 1;
  IF FOUND THEN
    verdict := 'excluded';
    RETURN;
  END IF;
  IF take AND pool.family <> 'ipv4' THEN
    INSERT INTO pool_addresses (pool_id, address)
      VALUES (own_pool, network(set_masklen(wanted, pool.chunk_length))::inet) ON CONFLICT DO NOTHING;
  END IF;
  FOR size IN pool.chunk_length .. masklen(wanted) LOOP
    IF take THEN
      SELECT * INTO row FROM pool_addresses a WHERE a.pool_id = own_pool
        AND a.address = network(set_masklen(wanted, size))::inet FOR UPDATE;
    ELSE
      SELECT * INTO row FROM pool_addresses a WHERE a.pool_id = own_pool
        AND a.address = network(set_masklen(wanted, size))::inet;
    END IF;
    IF NOT FOUND THEN  -- nobody ever had it
      verdict := CASE WHEN pool.family = 'ipv4' THEN 'outside' ELSE 'ok' END;
      RETURN;
    END IF;
    why := row.why;
    verdict := CASE WHEN row.state IN ('held', 'blocked') THEN row.state
                    WHEN row.state = 'split' THEN 'parts'
                    WHEN row.free_after > clock_timestamp() AND row.last_service_id IS DISTINCT FROM own_service
                      THEN 'quarantine'
                    ELSE 'ok' END;
    EXIT WHEN verdict <> 'parts';
  END LOOP;
  IF take AND verdict = 'ok' THEN
    rested := row.last_end;
    PERFORM split_space(own_pool, row.address, wanted);
    UPDATE pool_addresses a SET state = 'held' WHERE a.pool_id = own_pool AND a.address = wanted;
  END IF;
END
$$;

-- What a pool has in its own size: counted in pool_addresses and the intervals, then rolled up into the pool's row.
CREATE FUNCTION count_pool(own_pool uuid, OUT held bigint, OUT free bigint, OUT resting bigint, OUT blocked bigint)
  LANGUAGE sql STABLE AS $$
  SELECT count(*) FILTER (WHERE a.state = 'held'),
    coalesce(sum(1::bigint << greatest(p.delegated_length - masklen(a.address), 0))
      FILTER (WHERE a.state = 'free' AND a.free_after <= clock_timestamp()), 0)::bigint
      + coalesce((SELECT sum((s.last - s.next + 1) << (p.delegated_length - p.chunk_length)) FROM pool_shards s
                  WHERE s.pool_id = own_pool), 0)::bigint,
    count(*) FILTER (WHERE a.state = 'free' AND a.free_after > clock_timestamp()),
    count(*) FILTER (WHERE a.state = 'blocked')
  FROM ip_pools p LEFT JOIN pool_addresses a ON a.pool_id = p.id WHERE p.id = own_pool
  GROUP BY p.id
$$;

CREATE FUNCTION roll_up_pool(own_pool uuid) RETURNS void LANGUAGE sql AS $$
  UPDATE ip_pools p SET total_addresses = c.held + c.free + c.resting, assigned_count = c.held,
    available_count = c.free, counted_at = clock_timestamp(), updated_at = clock_timestamp()
  FROM count_pool(own_pool) c WHERE p.id = own_pool
$$;

DO $own$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['take_fresh(uuid, integer, boolean)', 'split_space(uuid, inet, inet)',
      'join_space(uuid)', 'take_space(uuid, bigint, integer, integer, boolean)',
      'request_space(uuid, bigint, inet, boolean)', 'count_pool(uuid)', 'roll_up_pool(uuid)'] LOOP
    EXECUTE 'REVOKE ALL ON FUNCTION ' || name || ' FROM PUBLIC';
  END LOOP;
END
$own$;
GRANT EXECUTE ON FUNCTION take_space(uuid, bigint, integer, integer, boolean) TO addrflow_app;
GRANT EXECUTE ON FUNCTION request_space(uuid, bigint, inet, boolean) TO addrflow_app;

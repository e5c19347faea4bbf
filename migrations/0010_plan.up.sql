-- A look at what the allocator would take, for plans: nothing is locked, nothing is written.

CREATE FUNCTION peek_fresh(own_pool uuid, own_length integer) RETURNS inet LANGUAGE plpgsql STABLE AS $$
DECLARE
  shard pool_shards%ROWTYPE;
  candidate inet;
  excluded_to bigint;
BEGIN
  FOR shard IN SELECT * FROM pool_shards s WHERE s.pool_id = own_pool AND s.next <= s.last ORDER BY s.shard LOOP
    WHILE shard.next <= shard.last LOOP
      candidate := piece(shard.next, own_length);
      shard.next := shard.next + 1;
      SELECT max(piece_number(broadcast(e.space), own_length)) INTO excluded_to FROM pool_exclusions e
        WHERE e.pool_id = own_pool AND e.space && candidate;
      IF excluded_to IS NOT NULL THEN
        shard.next := excluded_to + 1;
        CONTINUE;
      END IF;
      IF NOT EXISTS (SELECT 1 FROM pool_addresses a WHERE a.pool_id = own_pool AND a.address = candidate) THEN
        RETURN candidate;
      END IF;
    END LOOP;
  END LOOP;
  RETURN NULL;
END
$$;

-- What take_space would choose now, in its order: the service's former space, what nobody ever had, what has rested
-- for longest. Somebody else may come first.
CREATE FUNCTION peek_space(own_pool uuid, own_service bigint, own_length integer, chunk integer,
    OUT space inet, OUT method text)
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT
  SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
  size integer := own_length;
BEGIN
  IF NOT may_use_pool(own_pool) THEN
    RETURN;
  END IF;
  method := 'sticky';
  SELECT a.address INTO space FROM pool_addresses a WHERE a.last_service_id = own_service
    AND a.state = 'free' AND a.pool_id = own_pool AND masklen(a.address) = own_length
    ORDER BY a.last_end DESC LIMIT 1;
  IF space IS NOT NULL THEN
    RETURN;
  END IF;
  method := 'auto';
  IF chunk = own_length THEN
    space := peek_fresh(own_pool, chunk);
  END IF;
  WHILE space IS NULL AND size >= chunk LOOP
    SELECT a.address INTO space FROM pool_addresses a WHERE a.pool_id = own_pool
      AND a.state = 'free' AND masklen(a.address) = size AND a.free_after <= clock_timestamp()
      ORDER BY a.free_after, a.address LIMIT 1;
    size := size - 1;
  END LOOP;
  IF space IS NULL AND chunk < own_length THEN
    space := peek_fresh(own_pool, chunk);
  END IF;
  IF masklen(space) < own_length THEN
    space := set_masklen(space, own_length);
  END IF;
END
$$;

REVOKE ALL ON FUNCTION peek_fresh(uuid, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION peek_space(uuid, bigint, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION peek_space(uuid, bigint, integer, integer) TO addrflow_app;

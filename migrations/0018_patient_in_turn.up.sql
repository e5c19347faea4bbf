-- Those who wait for locked rows of a pool wait in turn. One that gets the row which it waited for, finds it taken and waits
-- for the next one still has the lock of the first: two of them, who saw the rows in different orders, would wait for each
-- other.
CREATE OR REPLACE FUNCTION take_space(own_pool uuid, own_service bigint, own_length integer, chunk integer, patient boolean,
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
  IF patient THEN
    PERFORM pg_advisory_xact_lock(hashtextextended(own_pool::text, 15));
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

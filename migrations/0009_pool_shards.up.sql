-- A new pool of prefixes, cut into the intervals from which lines are served: at most 64, so that as many clients take
-- from it at once (`take_fresh` begins at a random one).
CREATE FUNCTION make_pool_shards(own_pool uuid) RETURNS void LANGUAGE sql AS $$
  INSERT INTO pool_shards (pool_id, shard, next, last)
  SELECT own_pool, i, first + pieces / shards * i,
    CASE WHEN i = shards - 1 THEN first + pieces - 1 ELSE first + pieces / shards * (i + 1) - 1 END
  FROM (SELECT first, pieces, least(pieces, 64) AS shards
        FROM (SELECT piece_number(prefix::inet, chunk_length) AS first,
                1::bigint << (chunk_length - masklen(prefix)) AS pieces
              FROM ip_pools WHERE id = own_pool) whole) cut, generate_series(0, shards - 1) i
$$;

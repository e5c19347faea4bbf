DROP FUNCTION make_pool_shards(uuid);

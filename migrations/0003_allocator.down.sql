-- Prefixes of mixed sizes and pools of one site are forgotten; what is held stays in the holdings.
DROP FUNCTION roll_up_pool(uuid);
DROP FUNCTION count_pool(uuid);
DROP FUNCTION request_space(uuid, bigint, inet, boolean);
DROP FUNCTION take_space(uuid, bigint, integer, integer, boolean);
DROP FUNCTION may_use_pool(uuid);
DROP FUNCTION join_space(uuid);
DROP FUNCTION split_space(uuid, inet, inet);
DROP FUNCTION take_fresh(uuid, integer, boolean);
DROP FUNCTION upper_half(inet);
DROP FUNCTION lower_half(inet);
DROP FUNCTION piece(bigint, integer);
DROP FUNCTION piece_number(inet, integer);
DROP TABLE pool_shards;
DROP TABLE pool_nas;
DROP INDEX pool_exclusions_space;
DROP INDEX pool_addresses_free;
CREATE INDEX pool_addresses_free ON pool_addresses (pool_id, free_after, address) WHERE state = 'free';
DROP INDEX pool_addresses_former;
CREATE INDEX pool_addresses_former ON pool_addresses (last_service_id) WHERE state = 'free';
DELETE FROM pool_addresses WHERE state = 'split';
ALTER TABLE pool_addresses DROP CONSTRAINT pool_addresses_state_check;
ALTER TABLE pool_addresses ADD CONSTRAINT pool_addresses_state_check CHECK (state IN ('free', 'held', 'blocked'));
ALTER TABLE ip_pools DROP CONSTRAINT ip_pools_lengths;
ALTER TABLE ip_pools DROP COLUMN delegated_length, DROP COLUMN chunk_length, DROP COLUMN draining,
  DROP COLUMN pool_group, DROP COLUMN priority, DROP COLUMN counted_at;

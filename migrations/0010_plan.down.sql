DROP FUNCTION peek_space(uuid, bigint, integer, integer);
DROP FUNCTION peek_fresh(uuid, integer);

DROP FUNCTION held_elsewhere(bigint, text);

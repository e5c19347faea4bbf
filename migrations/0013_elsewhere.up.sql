-- The same space may be held in two routing domains, and accounting knows none. The release gate asks whether whoever
-- shows its space in accounting holds it elsewhere: past row-level security, and the answer is yes or no only.
CREATE FUNCTION held_elsewhere(own_holding bigint, name text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT EXISTS (
    SELECT 1 FROM holdings h, services s JOIN holdings o ON o.service_id = s.id AND upper_inf(o.period)
    WHERE h.id = own_holding AND o.space && h.space AND o.routing_domain_id <> h.routing_domain_id
      AND s.id IN (SELECT id FROM services WHERE username = name AND username <> ''
                   UNION ALL SELECT id FROM services WHERE former_usernames @> ARRAY[name] AND former_usernames <> '{}'))
$$;
REVOKE ALL ON FUNCTION held_elsewhere(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION held_elsewhere(bigint, text) TO addrflow_app;

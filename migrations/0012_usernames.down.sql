CREATE OR REPLACE FUNCTION username_leaving(own bigint, name text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT EXISTS (
    SELECT 1 FROM services s JOIN effects e ON e.service_id = s.id AND e.number = s.number
    WHERE s.former_usernames @> ARRAY[name] AND s.former_usernames <> '{}' AND s.id <> own
      AND e.system = 'radius' AND e.action = 'disconnect' AND e.status IN ('planned', 'sent', 'unknown', 'refused'))
$$;
DROP FUNCTION username_held(bigint);

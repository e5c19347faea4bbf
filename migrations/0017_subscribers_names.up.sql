-- A line without a username of its own goes by its subscriber's id, which AAA then has as its username: so that name is
-- somebody's too.
CREATE INDEX services_nameless ON services (subscriber_id) WHERE username = '';

-- Each half names its index's condition: the planner cannot know that no name is empty.
CREATE OR REPLACE FUNCTION username_taken(own bigint, name text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT EXISTS (SELECT 1 FROM services s WHERE s.username = name AND s.username <> '' AND s.id <> own
                 AND username_held(s.id))
    OR EXISTS (SELECT 1 FROM services s WHERE s.username = '' AND s.subscriber_id = name AND s.id <> own
               AND username_held(s.id))
$$;

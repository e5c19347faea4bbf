-- An operation whose run was lost is carried out by a later one. Its caller never had an answer: one that asks for the same
-- again, as a new request, is told what was done.
ALTER TABLE operations ADD COLUMN resumed boolean NOT NULL DEFAULT false;

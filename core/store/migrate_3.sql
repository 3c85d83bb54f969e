-- From version 2 to version 3. What comes out is what schema.sql makes, table
-- by table: a test compares the two.

ALTER TABLE rank ADD COLUMN bind TEXT;

ALTER TABLE attempt ADD COLUMN nodes INTEGER NOT NULL DEFAULT 1;
ALTER TABLE attempt ADD COLUMN job_key TEXT;
ALTER TABLE attempt ADD COLUMN job TEXT;
ALTER TABLE node ADD COLUMN slow INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN excluded_until_ns INTEGER;
ALTER TABLE node ADD COLUMN reason TEXT;
ALTER TABLE node ADD COLUMN cleared_ns INTEGER;
CREATE TABLE node_check (
  node        TEXT NOT NULL,
  attempt_id  INTEGER NOT NULL REFERENCES attempt,
  name        TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('ok', 'warning', 'failed')),
  message     TEXT NOT NULL,
  time_ns     INTEGER NOT NULL,
  PRIMARY KEY (node, attempt_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_check_by_attempt ON node_check (attempt_id);
CREATE INDEX attempt_by_node ON attempt (node, ended_ns) WHERE node IS NOT NULL;
ALTER TABLE run ADD COLUMN job TEXT;

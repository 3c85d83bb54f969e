-- From version 2 to version 3. What comes out is what schema.sql makes, table
-- by table: a test compares the two.

ALTER TABLE rank ADD COLUMN bind TEXT;
CREATE TABLE environment (                     -- what attempts ran on and with, each document once
  sha256      TEXT PRIMARY KEY,
  document    TEXT NOT NULL                    -- canonical JSON, an object
) STRICT;

CREATE TABLE attempt_environment (             -- of each node: core/store/environment.h
  attempt_id  INTEGER NOT NULL REFERENCES attempt,
  part        TEXT NOT NULL,                   -- 'machine', 'python'
  node        INTEGER NOT NULL,                -- its number in the attempt
  host        TEXT NOT NULL,
  cwd         TEXT NOT NULL,                   -- of the program
  sha256      TEXT NOT NULL REFERENCES environment,
  PRIMARY KEY (attempt_id, part, node)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE recent (                          -- points of many series that wait to become chunks
  id          INTEGER PRIMARY KEY,             -- in the order logged
  journal_id  INTEGER NOT NULL REFERENCES journal,
  run_id      INTEGER NOT NULL REFERENCES run,
  rank        INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,                -- the newest of its run
  folded_ns   INTEGER NOT NULL,
  data        BLOB NOT NULL                    -- core/store/recent.h
) STRICT;
CREATE INDEX recent_by_rank ON recent (run_id, rank);
CREATE INDEX recent_by_journal ON recent (journal_id);
CREATE INDEX event_damage ON event (run_id, attempt_id, rank) WHERE kind = 'damage';

CREATE TABLE pool (                            -- allocations that attempts are packed into
  id          INTEGER PRIMARY KEY,
  ulid        TEXT NOT NULL UNIQUE,
  spec        TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('starting', 'running', 'ending', 'ended')),
  nodes       INTEGER NOT NULL,
  job_key     TEXT NOT NULL,
  job         TEXT,
  message     TEXT,
  created_ns  INTEGER NOT NULL,
  started_ns  INTEGER,
  ended_ns    INTEGER
) STRICT;
CREATE INDEX pool_open ON pool (state) WHERE state != 'ended';
ALTER TABLE attempt ADD COLUMN pool_id INTEGER REFERENCES pool;
ALTER TABLE attempt ADD COLUMN place TEXT;
CREATE INDEX attempt_by_pool ON attempt (pool_id) WHERE pool_id IS NOT NULL;

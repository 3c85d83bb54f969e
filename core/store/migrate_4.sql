-- From version 3 to version 4. What comes out is what schema.sql makes, table
-- by table: a test compares the two.

ALTER TABLE sweep ADD COLUMN runs INTEGER;
ALTER TABLE proposal ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE proposal ADD COLUMN observed INTEGER;
ALTER TABLE proposal ADD COLUMN observation TEXT;
CREATE UNIQUE INDEX proposal_observed ON proposal (sweep_id, observed) WHERE observed IS NOT NULL;
ALTER TABLE tensor ADD COLUMN whole_shape TEXT;
ALTER TABLE tensor ADD COLUMN part_begin TEXT;

CREATE TABLE object_block (
  sha256      TEXT PRIMARY KEY REFERENCES object ON DELETE CASCADE,
  digests     BLOB NOT NULL
) STRICT;

CREATE TABLE verification (
  id          INTEGER PRIMARY KEY,
  part        INTEGER NOT NULL,
  parts       INTEGER NOT NULL,
  run_id      INTEGER REFERENCES run,
  cursor      TEXT NOT NULL,
  objects     INTEGER NOT NULL,
  bytes       INTEGER NOT NULL,
  begun_ns    INTEGER NOT NULL,
  ended_ns    INTEGER
) STRICT;
CREATE INDEX verification_open ON verification (run_id) WHERE ended_ns IS NULL;

CREATE TABLE rung (
  id          INTEGER PRIMARY KEY,
  sweep_id    INTEGER NOT NULL REFERENCES sweep,
  run_id      INTEGER NOT NULL REFERENCES run,
  step        INTEGER NOT NULL,
  at_step     INTEGER NOT NULL,
  value       REAL,    value_bits INTEGER,
  best        REAL,
  mean        REAL,
  verdict     TEXT NOT NULL CHECK (verdict IN ('go', 'stop', 'pause')),
  reason      TEXT,
  time_ns     INTEGER NOT NULL,
  promoted_ns INTEGER,
  UNIQUE (sweep_id, run_id, step)
) STRICT;
CREATE INDEX rung_by_step ON rung (sweep_id, step, id);

CREATE TABLE pin (
  checkpoint_id INTEGER PRIMARY KEY REFERENCES checkpoint,
  reason      TEXT,
  pinned_ns   INTEGER NOT NULL
) STRICT;

CREATE TABLE origin (
  run_id      INTEGER PRIMARY KEY REFERENCES run,
  bundle      TEXT NOT NULL,
  sha256      TEXT NOT NULL,
  name        TEXT NOT NULL,
  imported_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE proof (
  id          INTEGER PRIMARY KEY,
  run_id      INTEGER NOT NULL REFERENCES run,
  checkpoint  TEXT NOT NULL,
  step        INTEGER NOT NULL,
  result      TEXT NOT NULL CHECK (result IN ('same', 'differs', 'failed')),
  points      INTEGER NOT NULL,
  message     TEXT NOT NULL,
  proved_ns   INTEGER NOT NULL
) STRICT;
CREATE INDEX proof_by_run ON proof (run_id, checkpoint);

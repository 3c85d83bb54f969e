-- From version 1 to version 2. What comes out is what schema.sql makes, table
-- by table: a test compares the two.

ALTER TABLE series ADD COLUMN last_int INTEGER;
ALTER TABLE series ADD COLUMN tail BLOB;

DROP INDEX chunk_open;
UPDATE chunk SET tier = 4 WHERE count >= 4096;
CREATE INDEX chunk_open ON chunk (series_id, attempt, tier) WHERE tier < 4;

ALTER TABLE snapshot ADD COLUMN subject TEXT;

DROP INDEX series_by_key;
CREATE INDEX series_by_key ON series (key, run_id, rank, last, last_int, last_bits, min, max, sum,
  sum_low, finite, count, first_step, last_step);
CREATE INDEX param_by_name ON param (name, run_id, kind, value);
CREATE INDEX tag_by_name ON tag (name, run_id, value);
CREATE INDEX event_note ON event (run_id) WHERE kind = 'note';
CREATE INDEX event_lost ON event (run_id) WHERE kind = 'log.lost';
ALTER TABLE journal ADD COLUMN segment INTEGER NOT NULL DEFAULT 0;

CREATE TABLE media (                           -- histograms, images, tables, files that were logged
  id          INTEGER PRIMARY KEY,
  run_id      INTEGER NOT NULL REFERENCES run,
  attempt_id  INTEGER REFERENCES attempt,
  rank        INTEGER NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('histogram', 'image', 'table', 'file')),
  key         TEXT NOT NULL,
  step        INTEGER,                         -- NULL: of the run as a whole
  time_ns     INTEGER NOT NULL,
  name        TEXT,                            -- of a file, as its program named it
  mime        TEXT NOT NULL,
  bytes       INTEGER NOT NULL,
  sha256      TEXT REFERENCES object,          -- where the bytes are an object
  data        BLOB,                            -- else the bytes
  CHECK ((sha256 IS NULL) != (data IS NULL))
) STRICT;
CREATE INDEX media_by_run ON media (run_id, kind, key, step);
CREATE INDEX media_by_object ON media (sha256) WHERE sha256 IS NOT NULL;

CREATE TABLE import (                          -- how far a foreign source was taken in
  id          INTEGER PRIMARY KEY,
  format      TEXT NOT NULL,                   -- 'tensorboard', 'wandb', 'trackio', 'mlflow', ...
  source      TEXT NOT NULL,                   -- absolute path, and what is inside it: PATH#RUN
  run_id      INTEGER NOT NULL REFERENCES run,
  cursor      TEXT NOT NULL,                   -- JSON: where to go on; moves with what it counts
  imported_ns INTEGER NOT NULL,
  UNIQUE (format, source)
) STRICT;

CREATE TABLE lease (                           -- who may supervise (core/store/lease.h)
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  token       INTEGER NOT NULL,                -- goes up with each holder
  holder      TEXT NOT NULL,                   -- JSON: host, pid, command
  taken_ns    INTEGER NOT NULL
) STRICT;

-- Charts are planned from the index alone.
DROP INDEX chunk_by_series;
CREATE INDEX chunk_by_series ON chunk (series_id, attempt, first_step, last_step, count, finite, nans, min, max, sum);

-- From version 4 to version 5. What comes out is what schema.sql makes, table
-- by table: a test compares the two.

ALTER TABLE checkpoint ADD COLUMN total_ns INTEGER;
ALTER TABLE checkpoint ADD COLUMN hash_ns INTEGER;
ALTER TABLE checkpoint ADD COLUMN sync TEXT CHECK (sync IN ('fsync', 'syncfs', 'both'));
ALTER TABLE checkpoint ADD COLUMN asynchronous INTEGER;
ALTER TABLE tensor ADD COLUMN own INTEGER;

CREATE TABLE checkpoint_save (
  id          INTEGER PRIMARY KEY,
  attempt_id  INTEGER NOT NULL REFERENCES attempt,
  step        INTEGER NOT NULL,
  writers     INTEGER NOT NULL,
  round       INTEGER NOT NULL,
  reports     INTEGER NOT NULL DEFAULT 0,
  failed      INTEGER NOT NULL DEFAULT 0,
  UNIQUE (attempt_id, step, writers, round)
) STRICT;
INSERT INTO checkpoint_save (attempt_id, step, writers, round, reports) SELECT attempt_id, step,
  json_extract(report, '$.writers'), 0, count(*) FROM checkpoint_report GROUP BY 1, 2, 3;

CREATE TABLE checkpoint_report_5 (
  save_id     INTEGER NOT NULL REFERENCES checkpoint_save ON DELETE CASCADE,
  rank        INTEGER NOT NULL,
  report      TEXT NOT NULL,
  PRIMARY KEY (save_id, rank)
) STRICT, WITHOUT ROWID;
INSERT INTO checkpoint_report_5 SELECT s.id, r.rank, r.report FROM checkpoint_report r JOIN checkpoint_save s
  ON s.attempt_id = r.attempt_id AND s.step = r.step AND s.writers = json_extract(r.report, '$.writers');
DROP TABLE checkpoint_report;
ALTER TABLE checkpoint_report_5 RENAME TO checkpoint_report;

CREATE TABLE checkpoint_file_5 (
  checkpoint_id INTEGER NOT NULL REFERENCES checkpoint,
  rank        INTEGER NOT NULL,
  role        TEXT NOT NULL,
  part        INTEGER NOT NULL,
  sha256      TEXT NOT NULL REFERENCES object,
  PRIMARY KEY (checkpoint_id, rank, role, part)
) STRICT, WITHOUT ROWID;
INSERT INTO checkpoint_file_5 SELECT checkpoint_id, rank, role, 0, sha256 FROM checkpoint_file;
DROP TABLE checkpoint_file;
ALTER TABLE checkpoint_file_5 RENAME TO checkpoint_file;
CREATE INDEX checkpoint_file_by_object ON checkpoint_file (sha256);
ALTER TABLE rung ADD COLUMN promoted_after INTEGER;

CREATE TABLE sweep_change (
  sweep_id    INTEGER NOT NULL REFERENCES sweep,
  number      INTEGER NOT NULL,
  proposed    INTEGER NOT NULL,
  seen        INTEGER NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('runs', 'workers', 'freeze', 'thaw', 'drop', 'restore', 'warm')),
  detail      TEXT NOT NULL,
  reason      TEXT,
  time_ns     INTEGER NOT NULL,
  PRIMARY KEY (sweep_id, number)
) STRICT, WITHOUT ROWID;
-- A sweep had its larger budget from the beginning.
INSERT INTO sweep_change (sweep_id, number, proposed, seen, kind, detail, time_ns)
  SELECT id, 1, 0, 0, 'runs', json_object('runs', runs), created_ns FROM sweep WHERE runs IS NOT NULL;

CREATE TABLE sweep_prior (
  sweep_id    INTEGER NOT NULL,
  number      INTEGER NOT NULL,
  change      INTEGER NOT NULL,
  params      TEXT NOT NULL,
  observation TEXT NOT NULL,
  PRIMARY KEY (sweep_id, number),
  FOREIGN KEY (sweep_id, change) REFERENCES sweep_change
) STRICT, WITHOUT ROWID;

CREATE INDEX proposal_violating ON proposal (sweep_id, number)
  WHERE json_extract(observation, '$.violation') <> 0;
CREATE INDEX proposal_run_by_run ON proposal_run (run_id);

ALTER TABLE object ADD COLUMN codec TEXT CHECK (codec IN ('shuffle', 'xor'));
ALTER TABLE object ADD COLUMN anchor TEXT REFERENCES object;
ALTER TABLE object ADD COLUMN stored_bytes INTEGER;
ALTER TABLE object ADD COLUMN sampled REAL;
CREATE INDEX object_by_anchor ON object (anchor) WHERE anchor IS NOT NULL;
CREATE INDEX run_again ON run (identity, generation) WHERE generation > 1;
CREATE INDEX run_by_checkpoint ON run (from_checkpoint) WHERE from_checkpoint IS NOT NULL;
CREATE INDEX attempt_by_checkpoint ON attempt (resume_checkpoint) WHERE resume_checkpoint IS NOT NULL;
CREATE INDEX checkpoint_by_attempt ON checkpoint (attempt_id);
ALTER TABLE proposal ADD COLUMN forecast TEXT;
ALTER TABLE proposal ADD COLUMN lineage TEXT;
CREATE INDEX proposal_lineage ON proposal (sweep_id, number) WHERE lineage IS NOT NULL;
ALTER TABLE proposal_run ADD COLUMN asked INTEGER;
ALTER TABLE proposal_run ADD COLUMN seen INTEGER;
ALTER TABLE proposal_run ADD COLUMN changed INTEGER;
ALTER TABLE proposal_run ADD COLUMN observed INTEGER;
ALTER TABLE proposal_run ADD COLUMN value REAL;
ALTER TABLE rung ADD COLUMN audited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rung ADD COLUMN forecast TEXT;

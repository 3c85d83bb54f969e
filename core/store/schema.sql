-- The store: everything pioche knows, in one SQLite file. Plain SQL reads it.
--
-- Times are nanoseconds since 1970-01-01 UTC (columns *_ns). Digests are
-- lower-case hexadecimal SHA-256. A NaN cannot stand in a SQLite column: where
-- a value is NULL and its *_bits column is not, the bits are the IEEE 754
-- value. user_version is the version of this schema.

CREATE TABLE experiment (
  id          INTEGER PRIMARY KEY,
  name        TEXT NOT NULL UNIQUE,
  next_number INTEGER NOT NULL DEFAULT 1,      -- of its next run
  goal_key    TEXT,                            -- the newest recipe's goal
  goal        TEXT CHECK (goal IN ('minimize', 'maximize')),
  created_ns  INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshot (                        -- the exact code, a git commit
  id          INTEGER PRIMARY KEY,
  commit_id   TEXT NOT NULL UNIQUE,
  tree_id     TEXT NOT NULL,
  parent_id   TEXT,                            -- HEAD when it was taken
  branch      TEXT,
  dirty       INTEGER NOT NULL,                -- differs from parent_id
  repository  TEXT NOT NULL,                   -- path of the .git directory that holds it
  created_ns  INTEGER NOT NULL,
  subject     TEXT                             -- first line of the message of parent_id
) STRICT;

CREATE TABLE sweep (                           -- one plan of an experiment
  id            INTEGER PRIMARY KEY,
  ulid          TEXT NOT NULL UNIQUE,
  experiment_id INTEGER NOT NULL REFERENCES experiment,
  identity      TEXT NOT NULL,                 -- digest of spec: the same plan is the same sweep
  spec          TEXT NOT NULL,                 -- JSON: space, search, stop, seeds, program, launch
  recipe_path   TEXT NOT NULL,
  recipe        TEXT NOT NULL,                 -- its text
  state         TEXT NOT NULL CHECK (state IN ('active', 'done', 'interrupted')),
  created_ns    INTEGER NOT NULL,
  ended_ns      INTEGER,
  runs          INTEGER,                       -- a person extended it to so many points
  UNIQUE (experiment_id, identity)
) STRICT;

CREATE TABLE run (
  id             INTEGER PRIMARY KEY,
  ulid           TEXT NOT NULL UNIQUE,
  experiment_id  INTEGER NOT NULL REFERENCES experiment,
  number         INTEGER NOT NULL,
  status         TEXT NOT NULL CHECK (status IN
                 ('planned', 'queued', 'running', 'finished', 'failed', 'stopped', 'cancelled')),
  identity       TEXT,                         -- digest of its content; NULL when standalone
  generation     INTEGER NOT NULL DEFAULT 1,   -- 2, 3, ... by --again
  sweep_id       INTEGER REFERENCES sweep,
  snapshot_id    INTEGER REFERENCES snapshot,
  from_checkpoint TEXT,                        -- manifest digest of the checkpoint it grew from
  program        TEXT,                         -- JSON: command, sources, build, inputs, env, setup, wrap
  launch         TEXT,                         -- JSON: nodes, ranks_per_node, ...
  seed           INTEGER,
  reason         TEXT,                         -- why it failed or stopped, one line
  stop_requested_ns INTEGER,                   -- a person asked its supervisor to stop it
  created_ns     INTEGER NOT NULL,
  started_ns     INTEGER,
  ended_ns       INTEGER,
  job            TEXT,                         -- JSON: what it takes to go on without the recipe:
                                               -- words, inputs, label, retry, keep, launch, stop
  UNIQUE (experiment_id, number),
  UNIQUE (identity, generation)
) STRICT;
CREATE INDEX run_by_sweep ON run (sweep_id);
CREATE INDEX run_by_status ON run (status, experiment_id, number);
CREATE INDEX run_again ON run (identity, generation) WHERE generation > 1;
CREATE INDEX run_by_checkpoint ON run (from_checkpoint) WHERE from_checkpoint IS NOT NULL;

CREATE TABLE attempt (
  id           INTEGER PRIMARY KEY,
  run_id       INTEGER NOT NULL REFERENCES run,
  number       INTEGER NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('starting', 'running', 'ended')),
  result       TEXT CHECK (result IN ('ok', 'failed', 'signal', 'timeout', 'preempted', 'node_fail',
                                      'oom', 'hang', 'cancelled', 'lost')),
  launcher     TEXT NOT NULL CHECK (launcher IN ('local', 'slurm', 'standalone')),
  dir          TEXT NOT NULL,                  -- relative to the store
  world_size   INTEGER NOT NULL,
  agent_pid    INTEGER,
  node         TEXT,                           -- of the first failure
  rank         INTEGER,
  exit_code    INTEGER,
  signal       INTEGER,
  step         INTEGER,                        -- newest step seen when it ended
  message      TEXT,                           -- the failure in one line
  resume_checkpoint TEXT,                      -- manifest digest it started from
  created_ns   INTEGER NOT NULL,
  started_ns   INTEGER,
  ended_ns     INTEGER,
  nodes        INTEGER NOT NULL DEFAULT 1,
  job_key      TEXT,                           -- by which the scheduler's job is found again
  job          TEXT,                           -- its id; NULL until the scheduler has said it
  pool_id      INTEGER REFERENCES pool,        -- it is part of that one's job
  place        TEXT,                           -- JSON: what it has of its pool: hosts, and slots of each
  UNIQUE (run_id, number),
  CHECK ((state = 'ended') = (result IS NOT NULL))
) STRICT;
CREATE INDEX attempt_open ON attempt (state) WHERE state != 'ended';
CREATE INDEX attempt_by_node ON attempt (node, ended_ns) WHERE node IS NOT NULL;
CREATE INDEX attempt_by_pool ON attempt (pool_id) WHERE pool_id IS NOT NULL;
CREATE INDEX attempt_by_checkpoint ON attempt (resume_checkpoint) WHERE resume_checkpoint IS NOT NULL;

CREATE TABLE pool (                            -- allocations that attempts are packed into
  id          INTEGER PRIMARY KEY,
  ulid        TEXT NOT NULL UNIQUE,            -- of its directory, pools/<ulid> (core/launch/pilot.h)
  spec        TEXT NOT NULL,                   -- JSON: what was asked for; who asks the same shares it
  state       TEXT NOT NULL CHECK (state IN ('starting', 'running', 'ending', 'ended')),
  nodes       INTEGER NOT NULL,
  job_key     TEXT NOT NULL,                   -- by which the scheduler's job is found again
  job         TEXT,                            -- its id; NULL until the scheduler has said it
  message     TEXT,                            -- how it ended, one line
  created_ns  INTEGER NOT NULL,
  started_ns  INTEGER,
  ended_ns    INTEGER
) STRICT;
CREATE INDEX pool_open ON pool (state) WHERE state != 'ended';

CREATE TABLE rank (                            -- how each process of an attempt ended
  attempt_id   INTEGER NOT NULL REFERENCES attempt,
  rank         INTEGER NOT NULL,
  node         TEXT NOT NULL,
  exit_code    INTEGER,
  signal       INTEGER,
  stdout_tail  TEXT,
  stderr_tail  TEXT,
  stalls       INTEGER NOT NULL DEFAULT 0,     -- waits of a full ring
  stalled_ns   INTEGER NOT NULL DEFAULT 0,
  bind         TEXT,                           -- JSON: the CPUs it ran on (core/launch/agent_bind.h)
  PRIMARY KEY (attempt_id, rank)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE param (
  run_id  INTEGER NOT NULL REFERENCES run,
  name    TEXT NOT NULL,
  value   ANY,                                 -- integer, real, text; 1/0 for booleans
  kind    TEXT NOT NULL CHECK (kind IN ('int', 'real', 'text', 'bool', 'json')),
  bits    INTEGER,                             -- of a real that SQLite cannot hold
  PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;
-- What queries read of a parameter lies together, in the order of runs: new runs
-- add to its end.
CREATE INDEX param_by_name ON param (name, run_id, kind, value);

CREATE TABLE tag (
  run_id  INTEGER NOT NULL REFERENCES run,
  name    TEXT NOT NULL,
  value   TEXT NOT NULL,
  PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_by_name ON tag (name, run_id, value);

CREATE TABLE event (                           -- text, events and what pioche did
  id          INTEGER PRIMARY KEY,
  run_id      INTEGER NOT NULL REFERENCES run,
  attempt_id  INTEGER REFERENCES attempt,
  rank        INTEGER,
  step        INTEGER,
  time_ns     INTEGER NOT NULL,
  kind        TEXT NOT NULL,                   -- 'text', or the name of what happened
  key         TEXT,
  message     TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_run ON event (run_id, id);
CREATE INDEX event_note ON event (run_id) WHERE kind = 'note';
CREATE INDEX event_lost ON event (run_id) WHERE kind = 'log.lost';
CREATE INDEX event_damage ON event (run_id, attempt_id, rank) WHERE kind = 'damage';

-- Statistics are of the points that are chunks. While a run of many hundreds of
-- series goes on, those of its later ranks are half a minute behind; pioche's own
-- SQL sees them as of now (core/store/series_now.h), as the table point does
-- everywhere.
CREATE TABLE series (                          -- all points of (run, key, rank)
  id          INTEGER PRIMARY KEY,
  run_id      INTEGER NOT NULL REFERENCES run,
  key         TEXT NOT NULL,
  rank        INTEGER NOT NULL,
  count       INTEGER NOT NULL DEFAULT 0,      -- of the points that reads show
  first_step  INTEGER,
  last_step   INTEGER,
  last        REAL,    last_bits INTEGER,      -- value at last_step (the newest logged of that step);
                                               -- bits only of a NaN or -0.0
  min         REAL,    min_step INTEGER,       -- over values that are not NaN
  max         REAL,    max_step INTEGER,
  sum         REAL,    sum_low REAL,           -- of finite values, as an unevaluated pair
  finite      INTEGER NOT NULL DEFAULT 0,      -- how many values are finite: mean = sum / finite
  nans        INTEGER NOT NULL DEFAULT 0,
  last_int    INTEGER,                         -- value at last_step where it was logged as an int64
  tail        BLOB,                            -- where the next points join (core/store/tail.c)
  UNIQUE (run_id, key, rank)
) STRICT;
CREATE INDEX series_by_key ON series (key, run_id, rank, last, last_int, last_bits, min, max, sum,
  sum_low, finite, count, first_step, last_step);

CREATE TABLE chunk (                           -- up to 4,096 points of one series
  id          INTEGER PRIMARY KEY,
  series_id   INTEGER NOT NULL REFERENCES series,
  attempt     INTEGER NOT NULL,                -- number of the attempt that logged it
  tier        INTEGER NOT NULL DEFAULT 0,      -- merges it went through; 4: it is full
  count       INTEGER NOT NULL,
  first_step  INTEGER NOT NULL,                -- smallest and largest step
  last_step   INTEGER NOT NULL,
  first_ns    INTEGER NOT NULL,
  last_ns     INTEGER NOT NULL,
  min REAL, min_step INTEGER, max REAL, max_step INTEGER,
  sum REAL, sum_low REAL, finite INTEGER NOT NULL, nans INTEGER NOT NULL,
  data        BLOB NOT NULL                    -- core/store/chunk.h
) STRICT;
CREATE INDEX chunk_by_series ON chunk (series_id, attempt, first_step, last_step, count, finite, nans, min, max, sum); -- charts are planned from it alone
CREATE INDEX chunk_open ON chunk (series_id, attempt, tier) WHERE tier < 4; -- still to be merged

CREATE TABLE journal (                         -- how far the journal of each node is folded
  id          INTEGER PRIMARY KEY,
  attempt_id  INTEGER NOT NULL REFERENCES attempt,
  node        INTEGER NOT NULL,
  path        TEXT NOT NULL,                   -- of its first segment, relative to the store
  offset      INTEGER NOT NULL,                -- bytes folded of the segment
  done        INTEGER NOT NULL DEFAULT 0,
  segment     INTEGER NOT NULL DEFAULT 0,      -- those before it are folded
  UNIQUE (attempt_id, node)
) STRICT;

CREATE TABLE journal_key (                     -- numbers that the journal gave to names
  journal_id  INTEGER NOT NULL REFERENCES journal,
  rank        INTEGER NOT NULL,
  key         INTEGER NOT NULL,
  series_id   INTEGER NOT NULL REFERENCES series,
  PRIMARY KEY (journal_id, rank, key)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE object (                          -- immutable files under objects/
  sha256      TEXT PRIMARY KEY,
  bytes       INTEGER NOT NULL,
  created_ns  INTEGER NOT NULL,
  verified_ns INTEGER,
  verified    TEXT,                            -- how: 'write', 'quick' (it is there), 'reread'; or what is wrong
  codec       TEXT CHECK (codec IN ('shuffle', 'xor')), -- NULL: the file has the bytes; else <sha256>.enc
                                               -- has them (core/sys/encoded.h), xor: with an anchor
  anchor      TEXT REFERENCES object,          -- has none itself
  stored_bytes INTEGER,                        -- of the file, where it is encoded
  sampled     REAL                             -- how many times smaller a sample became; NULL: not tried
) STRICT, WITHOUT ROWID;
CREATE INDEX object_by_anchor ON object (anchor) WHERE anchor IS NOT NULL;

CREATE TABLE object_block (                    -- of objects that were reread and good: where is it, when they are not?
  sha256      TEXT PRIMARY KEY REFERENCES object ON DELETE CASCADE,
  digests     BLOB NOT NULL                    -- XXH3-128, canonical, of each 16 MiB
) STRICT;

CREATE TABLE verification (                    -- passes that reread objects (core/store/verify.h)
  id          INTEGER PRIMARY KEY,
  part        INTEGER NOT NULL,                -- the sample, of how many; 1 of 1: all
  parts       INTEGER NOT NULL,
  run_id      INTEGER REFERENCES run,          -- its objects alone
  cursor      TEXT NOT NULL,                   -- digest of the newest object that was read
  objects     INTEGER NOT NULL,                -- read so far
  bytes       INTEGER NOT NULL,
  begun_ns    INTEGER NOT NULL,
  ended_ns    INTEGER                          -- NULL: the next one goes on here
) STRICT;
CREATE INDEX verification_open ON verification (run_id) WHERE ended_ns IS NULL;

CREATE TABLE checkpoint (
  id          INTEGER PRIMARY KEY,
  run_id      INTEGER NOT NULL REFERENCES run,
  attempt_id  INTEGER NOT NULL REFERENCES attempt,
  step        INTEGER NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('sealed', 'dropping')),
  manifest    TEXT NOT NULL,                   -- canonical JSON
  manifest_sha256 TEXT NOT NULL UNIQUE,        -- the checkpoint's name
  writers     INTEGER NOT NULL,
  bytes       INTEGER NOT NULL,
  fsyncs      INTEGER NOT NULL,
  stall_ns    INTEGER NOT NULL,                -- for which the slowest rank's program waited
  created_ns  INTEGER NOT NULL,
  total_ns    INTEGER,                         -- until the slowest rank had reported; this and the next: NULL
                                               -- where the writer was of before version 5
  hash_ns     INTEGER,                         -- processor time of SHA-256, of all ranks
  sync        TEXT CHECK (sync IN ('fsync', 'syncfs', 'both')), -- each file by its own, or all by one; ranks differ
  asynchronous INTEGER                         -- 1: written while the program went on
) STRICT;
CREATE INDEX checkpoint_by_run ON checkpoint (run_id, step);
CREATE INDEX checkpoint_by_attempt ON checkpoint (attempt_id);

CREATE TABLE checkpoint_save (                 -- checkpoints of which not all writers have reported
  id          INTEGER PRIMARY KEY,
  attempt_id  INTEGER NOT NULL REFERENCES attempt,
  step        INTEGER NOT NULL,
  writers     INTEGER NOT NULL,
  round       INTEGER NOT NULL,                -- the how many-th time that they save this step, from 0
  reports     INTEGER NOT NULL DEFAULT 0,
  failed      INTEGER NOT NULL DEFAULT 0,      -- 1: one of them could not save its part
  UNIQUE (attempt_id, step, writers, round)
) STRICT;

CREATE TABLE checkpoint_report (               -- and what those reported that have
  save_id     INTEGER NOT NULL REFERENCES checkpoint_save ON DELETE CASCADE,
  rank        INTEGER NOT NULL,
  report      TEXT NOT NULL,                   -- JSON: what it took, and files
  PRIMARY KEY (save_id, rank)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint_file (
  checkpoint_id INTEGER NOT NULL REFERENCES checkpoint,
  rank        INTEGER NOT NULL,
  role        TEXT NOT NULL,
  part        INTEGER NOT NULL,                -- 0, 1, ...: what is large is in several files
  sha256      TEXT NOT NULL REFERENCES object,
  PRIMARY KEY (checkpoint_id, rank, role, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX checkpoint_file_by_object ON checkpoint_file (sha256);

CREATE TABLE pin (                             -- checkpoints that are kept whatever the rule says
  checkpoint_id INTEGER PRIMARY KEY REFERENCES checkpoint,
  reason      TEXT,
  pinned_ns   INTEGER NOT NULL
) STRICT;

CREATE TABLE proof (                           -- programs that were resumed and compared with what they logged
  id          INTEGER PRIMARY KEY,
  run_id      INTEGER NOT NULL REFERENCES run,
  checkpoint  TEXT NOT NULL,                   -- manifest digest; it may be dropped since
  step        INTEGER NOT NULL,                -- of the checkpoint
  result      TEXT NOT NULL CHECK (result IN ('same', 'differs', 'failed')),
  points      INTEGER NOT NULL,                -- that were compared
  message     TEXT NOT NULL,
  proved_ns   INTEGER NOT NULL
) STRICT;
CREATE INDEX proof_by_run ON proof (run_id, checkpoint);

CREATE TABLE tensor (                          -- what is inside an object
  sha256      TEXT NOT NULL REFERENCES object,
  name        TEXT NOT NULL,
  dtype       TEXT NOT NULL,                   -- safetensors' name
  shape       TEXT NOT NULL,                   -- JSON array
  offset      INTEGER NOT NULL,                -- of its bytes in the file
  bytes       INTEGER NOT NULL,
  whole_shape TEXT,                            -- JSON: shape of the tensor that it is part of; NULL: of itself
  part_begin  TEXT,                            -- JSON: where, an array; a number: a run of its elements
  own         INTEGER,                         -- 1: of one that its rank saved whole, NULL: of one that all ranks make up
  PRIMARY KEY (sha256, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE bundle (                          -- archives that were exported
  id          INTEGER PRIMARY KEY,
  run_id      INTEGER NOT NULL REFERENCES run,
  path        TEXT NOT NULL,
  sha256      TEXT NOT NULL,
  bytes       INTEGER NOT NULL,
  created_ns  INTEGER NOT NULL
) STRICT;

CREATE TABLE origin (                          -- of runs that came out of a bundle
  run_id      INTEGER PRIMARY KEY REFERENCES run,
  bundle      TEXT NOT NULL,                   -- its name
  sha256      TEXT NOT NULL,                   -- and its digest
  name        TEXT NOT NULL,                   -- of the run where it was made, "gpt-3"
  imported_ns INTEGER NOT NULL
) STRICT;

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

CREATE TABLE node (                            -- machines that ran something
  name        TEXT PRIMARY KEY,
  first_seen_ns INTEGER NOT NULL,
  last_seen_ns  INTEGER NOT NULL,
  attempts    INTEGER NOT NULL DEFAULT 0,
  failures    INTEGER NOT NULL DEFAULT 0,      -- the first to fail, or left out by a failed check
  slow        INTEGER NOT NULL DEFAULT 0,      -- episodes of slow steps of its ranks
  excluded_until_ns INTEGER,                   -- nothing is sent to it before
  reason      TEXT,                            -- why it is, or was last, excluded
  cleared_ns  INTEGER                          -- a person said: what was before counts no more
) STRICT, WITHOUT ROWID;

CREATE TABLE node_check (                      -- what was found before the ranks of an attempt started
  node        TEXT NOT NULL,
  attempt_id  INTEGER NOT NULL REFERENCES attempt,
  name        TEXT NOT NULL,                   -- 'disk', 'shm', 'memory', ...
  state       TEXT NOT NULL CHECK (state IN ('ok', 'warning', 'failed')),
  message     TEXT NOT NULL,                   -- in figures
  time_ns     INTEGER NOT NULL,
  PRIMARY KEY (node, attempt_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_check_by_attempt ON node_check (attempt_id);

CREATE TABLE lease (                           -- who may supervise (core/store/lease.h)
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  token       INTEGER NOT NULL,                -- goes up with each holder
  holder      TEXT NOT NULL,                   -- JSON: host, pid, command
  taken_ns    INTEGER NOT NULL
) STRICT;

CREATE TABLE proposal (                        -- what a sampler proposed, in order
  sweep_id    INTEGER NOT NULL REFERENCES sweep,
  number      INTEGER NOT NULL,                -- 1, 2, ...; -1, -2, ... of points that a person put in
  params      TEXT NOT NULL,                   -- canonical JSON
  seen        INTEGER NOT NULL DEFAULT 0,      -- how many observations its sampler was told before
  observed    INTEGER,                         -- which observation it is itself: 1, 2, ...
  observation TEXT,                            -- JSON: what it came to, as its sampler was told
  forecast    TEXT,                            -- JSON: what its sampler expected of it before it ran
  lineage     TEXT,                            -- JSON, of a population: member, round, parent (the proposal
                                               -- whose checkpoint it grows from), copied (from another member)
  PRIMARY KEY (sweep_id, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX proposal_observed ON proposal (sweep_id, observed) WHERE observed IS NOT NULL;
CREATE INDEX proposal_lineage ON proposal (sweep_id, number) WHERE lineage IS NOT NULL;
CREATE INDEX proposal_violating ON proposal (sweep_id, number)
  WHERE json_extract(observation, '$.violation') <> 0;

CREATE TABLE proposal_run (                    -- its runs, one a seed
  sweep_id    INTEGER NOT NULL,
  number      INTEGER NOT NULL,
  seed        INTEGER NOT NULL,
  run_id      INTEGER NOT NULL REFERENCES run,
  asked       INTEGER,                         -- which decision of a race it is: 1, 2, ...; NULL: planned
  seen        INTEGER,                         -- and how many values the race had seen then,
  changed     INTEGER,                         -- and how many changes of its sweep
  observed    INTEGER,                         -- which value that a race saw it is itself
  value       REAL,                            -- that value; NULL with `observed`: it failed
  PRIMARY KEY (sweep_id, number, seed),
  FOREIGN KEY (sweep_id, number) REFERENCES proposal
) STRICT, WITHOUT ROWID;
CREATE INDEX proposal_run_by_run ON proposal_run (run_id);

CREATE TABLE input_digest (                    -- digests of input files, by what stat(2) says
  path        TEXT PRIMARY KEY,
  inode       INTEGER NOT NULL,
  bytes       INTEGER NOT NULL,
  mtime_ns    INTEGER NOT NULL,
  sha256      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rung (                            -- what a rule said of runs as they passed a rung
  id          INTEGER PRIMARY KEY,             -- in the order of arrival
  sweep_id    INTEGER NOT NULL REFERENCES sweep,
  run_id      INTEGER NOT NULL REFERENCES run,
  step        INTEGER NOT NULL,                -- of the rung
  at_step     INTEGER NOT NULL,                -- of the goal's newest point there
  value       REAL,    value_bits INTEGER,     -- of that point
  best        REAL,                            -- of all points up to it; NULL: they are NaN
  mean        REAL,                            -- of these; NULL: there is a NaN among them
  verdict     TEXT NOT NULL CHECK (verdict IN ('go', 'stop', 'pause')),
  reason      TEXT,                            -- one line
  time_ns     INTEGER NOT NULL,
  promoted_ns INTEGER,                         -- paused: since then it may go on
  promoted_after INTEGER,                      -- id of the newest arrival of its sweep then
  audited     INTEGER NOT NULL DEFAULT 0,      -- 1: the rule said stop, and it goes on to see what comes
  forecast    TEXT,                            -- JSON: what the rule expected of its end
  UNIQUE (sweep_id, run_id, step)
) STRICT;
CREATE INDEX rung_by_step ON rung (sweep_id, step, id);

CREATE TABLE sweep_change (                    -- what was changed of a sweep, in order
  sweep_id    INTEGER NOT NULL REFERENCES sweep,
  number      INTEGER NOT NULL,                -- 1, 2, ...
  proposed    INTEGER NOT NULL,                -- how many proposals of its sampler came before,
  seen        INTEGER NOT NULL,                -- and how many observations
  kind        TEXT NOT NULL CHECK (kind IN ('runs', 'workers', 'freeze', 'thaw', 'drop', 'restore', 'warm')),
  detail      TEXT NOT NULL,                   -- JSON: of lua/pioche/sweep/history.lua
  reason      TEXT,
  time_ns     INTEGER NOT NULL,
  PRIMARY KEY (sweep_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE sweep_prior (                     -- points of other sweeps that a sampler was told
  sweep_id    INTEGER NOT NULL,
  number      INTEGER NOT NULL,                -- 1, 2, ...
  change      INTEGER NOT NULL,                -- which brought it
  params      TEXT NOT NULL,                   -- JSON: a point of this sweep's space
  observation TEXT NOT NULL,                   -- JSON: as proposal.observation
  PRIMARY KEY (sweep_id, number),
  FOREIGN KEY (sweep_id, change) REFERENCES sweep_change
) STRICT, WITHOUT ROWID;

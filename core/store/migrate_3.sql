-- From version 2 to version 3. What comes out is what schema.sql makes, table
-- by table: a test compares the two.

ALTER TABLE attempt ADD COLUMN nodes INTEGER NOT NULL DEFAULT 1;
ALTER TABLE attempt ADD COLUMN job_key TEXT;
ALTER TABLE attempt ADD COLUMN job TEXT;

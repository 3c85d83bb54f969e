-- From version 3 to version 4. What comes out is what schema.sql makes, table
-- by table: a test compares the two.

ALTER TABLE proposal ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE proposal ADD COLUMN observed INTEGER;
ALTER TABLE proposal ADD COLUMN observation TEXT;
CREATE UNIQUE INDEX proposal_observed ON proposal (sweep_id, observed) WHERE observed IS NOT NULL;
ALTER TABLE tensor ADD COLUMN whole_shape TEXT;
ALTER TABLE tensor ADD COLUMN part_begin TEXT;

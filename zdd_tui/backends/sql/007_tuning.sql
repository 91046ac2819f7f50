-- Limits of a backfill that were changed while it ran, and how its last batches went.

ALTER TABLE zdd.release ADD COLUMN tuning jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN zdd.release.tuning IS 'limits of the backfill that differ from the plan''s, by name; the agent writes it';

ALTER TABLE zdd.backfill ADD COLUMN recent jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN zdd.backfill.recent IS 'the last batches, oldest first: [seconds since the epoch, rows, seconds taken]';
COMMENT ON COLUMN zdd.backfill.limits IS 'not used since zdd.release.tuning is there';

-- A release may have several backfills, one for each table that it fills: each has progress, ranges and failed rows of
-- its own. The backfill of a `change:` is the job without a name, as in every release before.

ALTER TABLE zdd.backfill ADD COLUMN job text NOT NULL DEFAULT '', DROP CONSTRAINT backfill_pkey;
ALTER TABLE zdd.backfill ADD PRIMARY KEY (release_id, job);
COMMENT ON COLUMN zdd.backfill.job IS 'name of the step that fills a table; empty: the rows of the change';

ALTER TABLE zdd.range ADD COLUMN job text NOT NULL DEFAULT '', DROP CONSTRAINT range_pkey;
ALTER TABLE zdd.range ADD PRIMARY KEY (release_id, job, kind, id);
COMMENT ON COLUMN zdd.range.job IS 'as in zdd.backfill';

ALTER TABLE zdd.failed_row ADD COLUMN job text NOT NULL DEFAULT '', DROP CONSTRAINT failed_row_pkey;
ALTER TABLE zdd.failed_row ADD PRIMARY KEY (release_id, job, key);
COMMENT ON COLUMN zdd.failed_row.job IS 'as in zdd.backfill';

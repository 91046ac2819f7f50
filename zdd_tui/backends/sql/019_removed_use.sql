-- The gate that waits until queries have stopped using what a release removes counts from a baseline.
ALTER TABLE zdd.baseline ADD COLUMN uses jsonb;
ALTER TABLE zdd.baseline ALTER COLUMN objects SET DEFAULT '[]';
COMMENT ON COLUMN zdd.baseline.uses IS 'calls of statements and scans of indexes when the old version had gone';

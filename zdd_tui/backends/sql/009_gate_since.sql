-- Since when a gate has been saying what it says: who waits for it, waits for so long.

ALTER TABLE zdd.gate ADD COLUMN since timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN zdd.gate.since IS 'when the verdict last changed';

-- How long a backfill took, and what it waited for: the sum of its batches does not say it.

ALTER TABLE zdd.backfill
    ADD COLUMN started_at timestamptz,
    ADD COLUMN ended_at timestamptz,
    ADD COLUMN waits jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN waiting_since timestamptz;
COMMENT ON COLUMN zdd.backfill.started_at IS 'first start of the batches; null before it';
COMMENT ON COLUMN zdd.backfill.ended_at IS 'when all rows were copied; null before it';
COMMENT ON COLUMN zdd.backfill.waits IS 'seconds for which nothing was written, by reason: paused, or the throttle';
COMMENT ON COLUMN zdd.backfill.waiting_since IS 'start of the present wait; null while batches run';

-- One table of a release can be paused by itself. A step that has begun and waits for that is suspended.

ALTER TABLE zdd.release ADD COLUMN table_pauses jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN zdd.release.table_pauses IS
    'tables whose backfill is paused: table, by, since (seconds since the epoch), waits (steps of other tables that wait for it); written by the agent';
COMMENT ON COLUMN zdd.command.args IS
    'expected (state at confirmation), typed, targets (frozen list), tuning, table (of a pause or resume of one table)';

ALTER TABLE zdd.step DROP CONSTRAINT step_status_check;
ALTER TABLE zdd.step ADD CONSTRAINT step_status_check CHECK (status IN (
    'pending', 'started', 'suspended', 'done', 'failed', 'undoing', 'undo-failed', 'undone'));

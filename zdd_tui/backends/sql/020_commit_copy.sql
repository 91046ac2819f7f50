-- From cutover on the witness copies a write of the old side alone to the new side, in its writer's transaction. Where
-- that was not possible, a row may be found equal because another transaction has replaced that write: it is named.

ALTER TABLE zdd.witness_record ADD COLUMN is_copied boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN zdd.witness_record.is_copied IS 'the row was copied to the new side at commit: both sides agree';

ALTER TABLE zdd.witness_row DROP CONSTRAINT witness_row_outcome_check;
ALTER TABLE zdd.witness_row ADD CONSTRAINT witness_row_outcome_check
    CHECK (outcome IN ('', 'agreed', 'repaired', 'copied'));
ALTER TABLE zdd.witness_row
    ADD COLUMN replaced_at timestamptz,
    ADD COLUMN replaced_write timestamptz,
    ADD COLUMN replaced_by text;
COMMENT ON COLUMN zdd.witness_row.outcome IS
    'agreed: found equal; repaired: copied by the agent; copied: copied at the commit of its writer';
COMMENT ON COLUMN zdd.witness_row.replaced_at IS
    'when both sides were found equal after another transaction than the recorded one has written the old side: it may have overwritten the recorded write; null: never';
COMMENT ON COLUMN zdd.witness_row.replaced_write IS 'time of the last recorded write before replaced_at';
COMMENT ON COLUMN zdd.witness_row.replaced_by IS 'id (xmin) of the transaction that wrote the row of the old side last';

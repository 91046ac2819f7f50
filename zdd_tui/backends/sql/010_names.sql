-- Standard names for columns, values, steps and gates; a verdict of its own for a gate that is not finished yet.

ALTER TABLE zdd.step RENAME COLUMN began_at TO started_at;
COMMENT ON COLUMN zdd.step.started_at IS 'when its present run or undo started';
ALTER TABLE zdd.step DROP CONSTRAINT step_status_check;
UPDATE zdd.step SET status = 'started' WHERE status = 'intent';
ALTER TABLE zdd.step ADD CONSTRAINT step_status_check CHECK (status IN (
    'pending', 'started', 'done', 'failed', 'undoing', 'undo-failed', 'undone'));
COMMENT ON TABLE zdd.step IS 'one idempotent effect each; started and undoing are written before the effect';

ALTER TABLE zdd.event RENAME COLUMN what TO message;
ALTER TABLE zdd.event RENAME COLUMN why TO reason;
ALTER TABLE zdd.evidence RENAME COLUMN what TO message;

ALTER TABLE zdd.gate DROP CONSTRAINT gate_verdict_check;
ALTER TABLE zdd.gate ADD CONSTRAINT gate_verdict_check
    CHECK (verdict IN ('pass', 'fail', 'pending', 'inconclusive', 'unknown'));
COMMENT ON COLUMN zdd.gate.since IS 'when the verdict last changed';

ALTER TABLE zdd.guard RENAME COLUMN acting TO should_act;
ALTER TABLE zdd.guard RENAME COLUMN applies TO is_applicable;
ALTER TABLE zdd.guard RENAME COLUMN acted TO action_taken;
COMMENT ON COLUMN zdd.guard.action_taken IS 'what the guard did about the present breach; empty again once the rule passes';

-- What the guard saves is short-lived: it is made anew.
DROP TABLE zdd.guard_memory;
CREATE TABLE zdd.guard_snapshot (
    release_id bigint NOT NULL REFERENCES zdd.release,
    part       text NOT NULL CHECK (part IN ('rule_states', 'counters')),
    epoch      bigint NOT NULL,
    saved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    body       bytea NOT NULL,
    PRIMARY KEY (release_id, part)
) WITH (fillfactor = 50);
-- The body is compressed already.
ALTER TABLE zdd.guard_snapshot ALTER COLUMN body SET STORAGE EXTERNAL;
COMMENT ON TABLE zdd.guard_snapshot IS 'state of the guard that the next agent continues with; times are ages before saved_at';
COMMENT ON COLUMN zdd.guard_snapshot.epoch IS 'of the lease under which it was saved';

CREATE FUNCTION zdd.new_name(old text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE old
        WHEN 'set-aside' THEN 'archive-old-side'
        WHEN 'drop-aside' THEN 'drop-archive'
        WHEN 'remember-workload' THEN 'record-workload'
        WHEN 'clear-marks' THEN 'remove-annotations'
        WHEN 'claim-service' THEN 'acquire-service'
        WHEN 'free-service' THEN 'release-service'
        WHEN 'switch-to-first' THEN 'switch-to-stable'
        WHEN 'never-short' THEN 'capacity-kept'
        WHEN 'first-warm' THEN 'stable-ready'
        WHEN 'green-gone' THEN 'green-removed'
        WHEN 'dark-gone' THEN 'dark-launch-removed'
        WHEN 'marks-gone' THEN 'annotations-removed'
        WHEN 'nothing-left' THEN 'cleanup-complete'
        ELSE old
    END
$$;
UPDATE zdd.step SET name = zdd.new_name(name) WHERE name <> zdd.new_name(name);
UPDATE zdd.gate SET name = zdd.new_name(name) WHERE name <> zdd.new_name(name);
UPDATE zdd.release SET strategy = jsonb_set(strategy, '{name}', '"blue-green"') WHERE strategy->>'name' = 'blue/green';
UPDATE zdd.release SET strategy = jsonb_set(strategy, '{name}', '"expand-contract"')
    WHERE strategy->>'name' = 'expand/contract';
UPDATE zdd.release r SET strategy = jsonb_set(r.strategy, '{phases}', (
    SELECT jsonb_agg(p.phase || jsonb_build_object(
        'steps', coalesce((
            SELECT jsonb_agg((s.step - 'work') || jsonb_build_object(
                'name', zdd.new_name(s.step->>'name'),
                'handler', zdd.new_name(coalesce(s.step->>'work', ''))) ORDER BY s.number)
            FROM jsonb_array_elements(p.phase->'steps') WITH ORDINALITY AS s (step, number)), '[]'),
        'gates', coalesce((
            SELECT jsonb_agg(g.gate || jsonb_build_object('name', zdd.new_name(g.gate->>'name')) ORDER BY g.number)
            FROM jsonb_array_elements(p.phase->'gates') WITH ORDINALITY AS g (gate, number)), '[]')
    ) ORDER BY p.number)
    FROM jsonb_array_elements(r.strategy->'phases') WITH ORDINALITY AS p (phase, number)));
DROP FUNCTION zdd.new_name;

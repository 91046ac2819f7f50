-- Standard names for columns, values, steps and gates; a verdict of its own for a gate that is not finished yet;
-- comments and messages in plain words.

ALTER TABLE zdd.step RENAME COLUMN began_at TO started_at;
ALTER TABLE zdd.step DROP CONSTRAINT step_status_check;
UPDATE zdd.step SET status = 'started' WHERE status = 'intent';
ALTER TABLE zdd.step ADD CONSTRAINT step_status_check CHECK (status IN (
    'pending', 'started', 'done', 'failed', 'undoing', 'undo-failed', 'undone'));

ALTER TABLE zdd.event RENAME COLUMN what TO message;
ALTER TABLE zdd.event RENAME COLUMN why TO reason;
ALTER TABLE zdd.evidence RENAME COLUMN what TO message;

ALTER TABLE zdd.gate DROP CONSTRAINT gate_verdict_check;
ALTER TABLE zdd.gate ADD CONSTRAINT gate_verdict_check
    CHECK (verdict IN ('pass', 'fail', 'pending', 'inconclusive', 'unknown'));

ALTER TABLE zdd.guard RENAME COLUMN acting TO should_act;
ALTER TABLE zdd.guard RENAME COLUMN applies TO is_applicable;
ALTER TABLE zdd.guard RENAME COLUMN acted TO action_taken;

ALTER TABLE zdd.lease RENAME COLUMN taken_at TO acquired_at;
UPDATE zdd.mismatch SET new = (new - 'what') || jsonb_build_object('reason', new->'what') WHERE new ? 'what';

-- The saved state of the guard is short-lived: it is not migrated.
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
    FROM jsonb_array_elements(r.strategy->'phases') WITH ORDINALITY AS p (phase, number)))
    WHERE jsonb_array_length(r.strategy->'phases') > 0;
DROP FUNCTION zdd.new_name;

CREATE OR REPLACE FUNCTION zdd.fence(for_release bigint, with_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    newest bigint;
BEGIN
    SELECT l.epoch INTO newest FROM zdd.lease l WHERE l.release_id = for_release FOR KEY SHARE;
    IF newest IS DISTINCT FROM with_epoch THEN
        RAISE EXCEPTION 'epoch % of release % is stale; the current epoch is %', with_epoch, for_release, newest
            USING ERRCODE = 'ZD001';
    END IF;
END $$;

COMMENT ON SEQUENCE zdd.epoch IS 'lease epochs, unique over all releases: Kubernetes and Redis store only the number';
COMMENT ON FUNCTION zdd.fence IS 'raises ZD001 unless the epoch is current, and keeps it current until the transaction ends';
COMMENT ON FUNCTION zdd.evict IS 'ends the sessions of agents with older epochs, as far as this role may';

COMMENT ON TABLE zdd.release IS 'one run of a plan';
COMMENT ON COLUMN zdd.release.plan_text IS 'the plan as written, with placeholders instead of secrets';
COMMENT ON COLUMN zdd.release.document IS 'the plan as data, with placeholders instead of secrets';
COMMENT ON COLUMN zdd.release.strategy IS 'phases with their steps and gates, fixed when the release was registered';
COMMENT ON COLUMN zdd.release.phase IS 'index into the phases of the strategy; -1 before the first';
COMMENT ON COLUMN zdd.release.cause IS 'why the guard rolled back or paused the release, with the measured values';
COMMENT ON COLUMN zdd.release.region IS 'region of this release, for a plan with several regions; else empty';
COMMENT ON COLUMN zdd.release.tuning IS 'backfill limits that differ from the plan, by name; written by the agent';
COMMENT ON INDEX zdd.release_plan IS 'lookup of the release of a plan by agents of later regions';

COMMENT ON TABLE zdd.step IS 'one idempotent effect each; started and undoing are written before the effect';
COMMENT ON COLUMN zdd.step.detail IS 'data for the undo';
COMMENT ON COLUMN zdd.step.note IS 'current progress';
COMMENT ON COLUMN zdd.step.started_at IS 'start of the current run or undo';

COMMENT ON TABLE zdd.command IS 'commands of operators; the agent executes one at a time';
COMMENT ON COLUMN zdd.command.args IS 'expected (state at confirmation), typed, targets (frozen list), tuning';

COMMENT ON TABLE zdd.gate IS 'the newest reading of each gate';
COMMENT ON COLUMN zdd.gate.since IS 'last change of the verdict';
COMMENT ON COLUMN zdd.gate.max_age IS 'seconds after which the reading counts as unknown';

COMMENT ON TABLE zdd.event IS 'audit log, append-only';

COMMENT ON TABLE zdd.lease IS 'the agent that may write for a release; an empty holder means that the lease was released';
COMMENT ON COLUMN zdd.lease.epoch IS 'grows with every holder; a write with an older one is refused';
COMMENT ON COLUMN zdd.lease.ttl IS 'seconds without renewal after which another agent may take over';

COMMENT ON TABLE zdd.backfill IS 'progress of the backfill; written in the transaction of each batch';
COMMENT ON COLUMN zdd.backfill.rows_total IS 'an estimate until the status is done';
COMMENT ON COLUMN zdd.backfill.seconds IS 'working time without pauses';
COMMENT ON COLUMN zdd.backfill.rate IS 'current rows per second';
COMMENT ON COLUMN zdd.backfill.throttle IS 'name of the active throttle, or empty';
COMMENT ON COLUMN zdd.backfill.mismatches IS 'of the last verification; null before it';
COMMENT ON COLUMN zdd.backfill.recent IS 'the last batches, oldest first: [seconds since 1970, rows, duration in seconds]';
COMMENT ON COLUMN zdd.backfill.limits IS 'unused; see zdd.release.tuning';

COMMENT ON TABLE zdd.range IS 'a part of the table in key order; its checkpoint commits with its batch';
COMMENT ON COLUMN zdd.range.lo IS 'key as an array of texts, exclusive; null: from the start';
COMMENT ON COLUMN zdd.range.hi IS 'key as an array of texts, inclusive; null: to the end';
COMMENT ON COLUMN zdd.range.cursor IS 'key of the last row that is done';

COMMENT ON TABLE zdd.failed_row IS 'rows that could not be copied, with the reason';
COMMENT ON TABLE zdd.mismatch IS 'rows whose two sides differ, from the last verification';

COMMENT ON TABLE zdd.guard IS 'the newest reading of each guard rule';
COMMENT ON COLUMN zdd.guard.baseline IS 'value of the old version at the same time, where the rule compares';
COMMENT ON COLUMN zdd.guard.series IS 'the last values, oldest first';
COMMENT ON COLUMN zdd.guard.should_act IS 'the rule is breached for long enough to act';
COMMENT ON COLUMN zdd.guard.is_applicable IS 'the rule is evaluated in the current phase';
COMMENT ON COLUMN zdd.guard.action_taken IS 'action of the guard for the current breach; empty again once the rule passes';
COMMENT ON COLUMN zdd.guard.max_age IS 'seconds after which the reading counts as unknown';

COMMENT ON TABLE zdd.guard_snapshot IS 'state of the guard that the next agent continues with; times are ages before saved_at';
COMMENT ON COLUMN zdd.guard_snapshot.epoch IS 'epoch of the lease that saved it';

COMMENT ON TABLE zdd.rehearsal IS 'results of rehearsals; a production plan needs a recent one that passed';
COMMENT ON COLUMN zdd.rehearsal.name IS 'name of the plan';
COMMENT ON COLUMN zdd.rehearsal.scale IS 'share of the rows of production that the rehearsal used';

COMMENT ON TABLE zdd.evidence IS 'answers of users and results of trials for `zdd doctor`, append-only';
COMMENT ON COLUMN zdd.evidence.name IS 'name of the plan';
COMMENT ON COLUMN zdd.evidence.plan_hash IS 'version of the plan for which an answer counts';
COMMENT ON COLUMN zdd.evidence.point IS 'item of the checklist';
COMMENT ON COLUMN zdd.evidence.subject IS 'tested image, for a trial';

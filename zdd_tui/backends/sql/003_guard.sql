-- The guard: what its rules said last, and why it acted.

ALTER TABLE zdd.release ADD COLUMN cause text NOT NULL DEFAULT '';
COMMENT ON COLUMN zdd.release.cause IS 'why the guard rolled the release back or paused it, with the numbers it saw';

CREATE TABLE zdd.guard (
    release_id  bigint NOT NULL REFERENCES zdd.release,
    rule        text NOT NULL,
    verdict     text NOT NULL CHECK (verdict IN ('pass', 'fail', 'inconclusive', 'unknown')),
    reason      text NOT NULL,
    unit        text NOT NULL CHECK (unit IN ('ratio', 'seconds', 'count', 'number')),
    value       double precision,
    baseline    double precision,
    "limit"     double precision,
    samples     bigint NOT NULL DEFAULT 0,
    series      double precision[] NOT NULL DEFAULT '{}',
    action      text NOT NULL CHECK (action IN ('rollback', 'pause', 'alert')),
    acting      boolean NOT NULL DEFAULT false,
    applies     boolean NOT NULL DEFAULT true,
    acted       text NOT NULL DEFAULT '' CHECK (acted IN ('', 'rollback', 'pause', 'alert')),
    observed_at timestamptz NOT NULL,
    max_age     double precision NOT NULL,
    PRIMARY KEY (release_id, rule)
) WITH (fillfactor = 50);
COMMENT ON TABLE zdd.guard IS 'the newest reading of each rule of the guard';
COMMENT ON COLUMN zdd.guard.baseline IS 'the old version''s value at the same moment, where the rule compares';
COMMENT ON COLUMN zdd.guard.series IS 'the last values, oldest first, for the screen';
COMMENT ON COLUMN zdd.guard.acted IS 'what the guard has done about the present breach; empty again once the rule passes';
COMMENT ON COLUMN zdd.guard.max_age IS 'seconds after which the reading counts as unknown';

-- A guard that was restarted, or taken over, must not ask for a rollback twice.
CREATE UNIQUE INDEX command_guard_rollback ON zdd.command (release_id) WHERE actor = 'guard' AND kind = 'rollback';

CREATE TRIGGER notify_insert AFTER INSERT ON zdd.guard REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.guard REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();

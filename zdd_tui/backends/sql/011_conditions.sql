-- Standing conditions: what a release relies on, and since when it does not hold.

CREATE TABLE zdd.condition (
    release_id   bigint NOT NULL REFERENCES zdd.release,
    name         text NOT NULL,
    status       text NOT NULL CHECK (status IN ('holds', 'breached', 'rechecking', 'unknown')),
    text         text NOT NULL DEFAULT '',
    who          text NOT NULL DEFAULT '',
    hint         text NOT NULL DEFAULT '',
    restored     boolean NOT NULL DEFAULT false,
    affects_rows boolean NOT NULL DEFAULT false,
    since        timestamptz NOT NULL DEFAULT clock_timestamp(),
    breached_at  timestamptz,
    PRIMARY KEY (release_id, name)
);
COMMENT ON TABLE zdd.condition IS 'standing conditions that were not met at some time, with their newest status';
COMMENT ON COLUMN zdd.condition.text IS 'what was found and what is expected';
COMMENT ON COLUMN zdd.condition.who IS 'who changed it and when, as far as it is recorded';
COMMENT ON COLUMN zdd.condition.restored IS 'the agent has written the release''s own value back';
COMMENT ON COLUMN zdd.condition.affects_rows IS 'meanwhile rows may have been written on one side only';
COMMENT ON COLUMN zdd.condition.since IS 'last change of the status';
COMMENT ON COLUMN zdd.condition.breached_at IS 'start of the newest breach; null before the first';

CREATE TRIGGER notify_insert AFTER INSERT ON zdd.condition REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.condition REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();

CREATE TABLE zdd.baseline (
    release_id bigint PRIMARY KEY REFERENCES zdd.release,
    objects    jsonb NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE zdd.baseline IS 'columns, indexes and constraints as they were when the release began to rely on them';

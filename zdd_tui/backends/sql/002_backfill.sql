-- The backfill: progress, ranges with their cursors, and what went wrong with single rows.

CREATE TABLE zdd.backfill (
    release_id    bigint PRIMARY KEY REFERENCES zdd.release,
    status        text NOT NULL CHECK (status IN ('prepared', 'running', 'paused', 'done', 'cancelled')),
    rows_total    bigint NOT NULL DEFAULT 0,
    rows_done     bigint NOT NULL DEFAULT 0,
    batches       bigint NOT NULL DEFAULT 0,
    batch_rows    integer NOT NULL DEFAULT 0,
    seconds       double precision NOT NULL DEFAULT 0,
    rate          double precision NOT NULL DEFAULT 0,
    throttle      text NOT NULL DEFAULT '',
    failed_rows   bigint NOT NULL DEFAULT 0,
    verified_rows bigint NOT NULL DEFAULT 0,
    mismatches    bigint,
    verified      boolean NOT NULL DEFAULT false,
    limits        jsonb NOT NULL DEFAULT '{}',
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE zdd.backfill IS 'progress; written in the transaction of the batch that made it';
COMMENT ON COLUMN zdd.backfill.rows_total IS 'an estimate until the status is done';
COMMENT ON COLUMN zdd.backfill.seconds IS 'time spent working, pauses left out';
COMMENT ON COLUMN zdd.backfill.rate IS 'rows a second over the last seconds';
COMMENT ON COLUMN zdd.backfill.throttle IS 'name of the signal in force, or empty';
COMMENT ON COLUMN zdd.backfill.mismatches IS 'of the last verification; null before it';
COMMENT ON COLUMN zdd.backfill.limits IS 'limits that can be changed while it runs';

CREATE TABLE zdd.range (
    release_id bigint NOT NULL REFERENCES zdd.release,
    id         integer NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('backfill', 'verify')),
    lo         jsonb,
    hi         jsonb,
    cursor     jsonb,
    rows       bigint NOT NULL DEFAULT 0,
    done       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (release_id, kind, id)
) WITH (fillfactor = 50);
COMMENT ON TABLE zdd.range IS 'a piece of the table in key order; its checkpoint commits with its batch';
COMMENT ON COLUMN zdd.range.lo IS 'key texts as an array, exclusive; null: from the start';
COMMENT ON COLUMN zdd.range.hi IS 'key texts as an array, inclusive; null: to the end';
COMMENT ON COLUMN zdd.range.cursor IS 'key texts of the last row that is done';

CREATE TABLE zdd.failed_row (
    release_id bigint NOT NULL REFERENCES zdd.release,
    key        jsonb NOT NULL,
    reason     text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (release_id, key)
);
COMMENT ON TABLE zdd.failed_row IS 'rows that could not be moved, with the reason';

CREATE TABLE zdd.mismatch (
    release_id bigint NOT NULL REFERENCES zdd.release,
    key        jsonb NOT NULL,
    old        jsonb,
    new        jsonb,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (release_id, key)
);
COMMENT ON TABLE zdd.mismatch IS 'rows whose two sides differ, as the last verification found them';

CREATE TRIGGER notify_insert AFTER INSERT ON zdd.backfill REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.backfill REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_insert AFTER INSERT ON zdd.failed_row REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_insert AFTER INSERT ON zdd.mismatch REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();

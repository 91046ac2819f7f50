-- What the guard keeps, so that the next agent goes on judging where this one was.

CREATE TABLE zdd.guard_memory (
    release_id bigint NOT NULL REFERENCES zdd.release,
    part       text NOT NULL CHECK (part IN ('courses', 'counters')),
    epoch      bigint NOT NULL,
    kept_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    body       bytea NOT NULL,
    PRIMARY KEY (release_id, part)
) WITH (fillfactor = 50);
-- What is compressed already need not be compressed again.
ALTER TABLE zdd.guard_memory ALTER COLUMN body SET STORAGE EXTERNAL;
COMMENT ON TABLE zdd.guard_memory IS 'what a guard needs to go on where the last one was: moments are ages before kept_at';
COMMENT ON COLUMN zdd.guard_memory.epoch IS 'of the lease under which it was kept';

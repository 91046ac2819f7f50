-- Releases: what they are, where they stand, who may write, and who did what.

CREATE SEQUENCE zdd.epoch;
COMMENT ON SEQUENCE zdd.epoch IS 'feeds lease epochs; unique over all releases, because Kubernetes and Redis know only the number';

CREATE TABLE zdd.release (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    environment text NOT NULL,
    plan_text   text NOT NULL,
    document    jsonb NOT NULL,
    plan_hash   text NOT NULL,
    strategy    jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'planned' CHECK (state IN (
        'planned', 'running', 'waiting', 'failed', 'rolling-back', 'rollback-failed', 'rolled-back', 'done')),
    phase       integer NOT NULL DEFAULT -1 CHECK (phase >= -1),
    paused      boolean NOT NULL DEFAULT false,
    error       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CONSTRAINT finished_when_ended CHECK ((state IN ('rolled-back', 'done')) = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX release_active ON zdd.release (name) WHERE state NOT IN ('rolled-back', 'done');
COMMENT ON TABLE zdd.release IS 'one run of a plan';
COMMENT ON COLUMN zdd.release.plan_text IS 'the plan as written: placeholders, never secrets';
COMMENT ON COLUMN zdd.release.document IS 'the plan as data: placeholders, never secrets';
COMMENT ON COLUMN zdd.release.strategy IS 'phases with their steps and gates, frozen when the release was registered';
COMMENT ON COLUMN zdd.release.phase IS 'index into the strategy''s phases; -1 before the first';

CREATE TABLE zdd.step (
    release_id bigint NOT NULL REFERENCES zdd.release,
    position   integer NOT NULL,
    name       text NOT NULL,
    status     text NOT NULL DEFAULT 'pending' CHECK (status IN (
        'pending', 'intent', 'done', 'failed', 'undoing', 'undo-failed', 'undone')),
    detail     jsonb NOT NULL DEFAULT '{}',
    note       text NOT NULL DEFAULT '',
    error      text NOT NULL DEFAULT '',
    began_at   timestamptz,
    ended_at   timestamptz,
    PRIMARY KEY (release_id, name),
    UNIQUE (release_id, position)
);
COMMENT ON TABLE zdd.step IS 'one idempotent effect each; intent and undoing are written before the effect';
COMMENT ON COLUMN zdd.step.detail IS 'what the undo needs to know';
COMMENT ON COLUMN zdd.step.note IS 'what it is doing now';
COMMENT ON COLUMN zdd.step.began_at IS 'when its present run or undo began';

CREATE TABLE zdd.command (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    release_id  bigint NOT NULL REFERENCES zdd.release,
    kind        text NOT NULL,
    args        jsonb NOT NULL DEFAULT '{}',
    reason      text NOT NULL DEFAULT '',
    actor       text NOT NULL,
    host        text NOT NULL,
    status      text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'done', 'refused')),
    outcome     text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    answered_at timestamptz
);
CREATE INDEX command_release ON zdd.command (release_id, id);
COMMENT ON TABLE zdd.command IS 'what operators ask; the agent answers one at a time';
COMMENT ON COLUMN zdd.command.args IS 'expected (what was seen when confirming), typed, targets (frozen list)';

CREATE TABLE zdd.gate (
    release_id  bigint NOT NULL REFERENCES zdd.release,
    name        text NOT NULL,
    verdict     text NOT NULL CHECK (verdict IN ('pass', 'fail', 'inconclusive', 'unknown')),
    reason      text NOT NULL,
    observed_at timestamptz NOT NULL,
    max_age     double precision NOT NULL,
    PRIMARY KEY (release_id, name)
);
COMMENT ON TABLE zdd.gate IS 'the newest reading of each gate';
COMMENT ON COLUMN zdd.gate.max_age IS 'seconds after which the reading counts as unknown';

CREATE TABLE zdd.event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    release_id bigint NOT NULL REFERENCES zdd.release,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text NOT NULL,
    host       text NOT NULL,
    kind       text NOT NULL,
    what       text NOT NULL,
    why        text NOT NULL DEFAULT ''
);
CREATE INDEX event_release ON zdd.event (release_id, id);
COMMENT ON TABLE zdd.event IS 'the audit: append-only';

CREATE FUNCTION zdd.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'zdd.event is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON zdd.event
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.refuse_change();
ALTER TABLE zdd.event ENABLE ALWAYS TRIGGER append_only;

CREATE TABLE zdd.lease (
    release_id bigint PRIMARY KEY REFERENCES zdd.release,
    epoch      bigint NOT NULL UNIQUE,
    holder     text NOT NULL,
    host       text NOT NULL,
    pid        integer NOT NULL,
    ttl        double precision NOT NULL CHECK (ttl > 0),
    taken_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE zdd.lease IS 'who may write for a release; an empty holder has given it back';
COMMENT ON COLUMN zdd.lease.epoch IS 'grows with every holder; a write that carries an older one is refused';
COMMENT ON COLUMN zdd.lease.ttl IS 'seconds without renewal after which another may take over';

-- The first statement of every transaction of an agent. KEY SHARE lets the holder renew meanwhile (an UPDATE
-- that touches no key), and makes whoever takes over (FOR UPDATE) wait until the transaction has ended.
CREATE FUNCTION zdd.fence(for_release bigint, with_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    newest bigint;
BEGIN
    SELECT l.epoch INTO newest FROM zdd.lease l WHERE l.release_id = for_release FOR KEY SHARE;
    IF newest IS DISTINCT FROM with_epoch THEN
        RAISE EXCEPTION 'epoch % of release % is over, it is % now', with_epoch, for_release, newest
            USING ERRCODE = 'ZD001';
    END IF;
END $$;
COMMENT ON FUNCTION zdd.fence IS 'raises ZD001 unless the epoch is the newest; holds it so until the transaction ends';

-- A frozen agent keeps its sessions, and with them the locks of an open transaction.
CREATE FUNCTION zdd.evict(of_release bigint, up_to_epoch bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    session integer;
    evicted integer := 0;
BEGIN
    FOR session IN
        SELECT a.pid FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
          AND substring(a.application_name FROM '^zdd agent ' || of_release || ' ([0-9]{1,18})$')::bigint
              <= up_to_epoch
    LOOP
        BEGIN
            evicted := evicted + pg_terminate_backend(session)::integer;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;  -- its idle_in_transaction_session_timeout ends it a little later
        END;
    END LOOP;
    RETURN evicted;
END $$;
COMMENT ON FUNCTION zdd.evict IS 'ends the sessions that agents of older epochs left behind, as far as we may';

-- NOTIFY says that something changed, never what: the payload is the id of the release.
CREATE FUNCTION zdd.notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('zdd', changed.release_id::text) FROM (SELECT DISTINCT release_id FROM fresh) changed;
    RETURN NULL;
END $$;
CREATE FUNCTION zdd.notify_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('zdd', fresh.id::text) FROM fresh;
    RETURN NULL;
END $$;
CREATE FUNCTION zdd.notify_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('zdd', NEW.release_id::text);
    RETURN NULL;
END $$;

CREATE TRIGGER notify_insert AFTER INSERT ON zdd.release REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_release();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.release REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_release();
CREATE TRIGGER notify_insert AFTER INSERT ON zdd.step REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.step REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_insert AFTER INSERT ON zdd.command REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.command REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_insert AFTER INSERT ON zdd.gate REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.gate REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_insert AFTER INSERT ON zdd.event REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
-- A renewal changes nothing that anybody waits for, and there is one every second.
CREATE TRIGGER notify_insert AFTER INSERT ON zdd.lease FOR EACH ROW EXECUTE FUNCTION zdd.notify_lease();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.lease FOR EACH ROW
    WHEN (OLD.epoch <> NEW.epoch OR OLD.holder <> NEW.holder) EXECUTE FUNCTION zdd.notify_lease();

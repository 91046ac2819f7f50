-- The witness: who wrote only one side of a row. The trigger of a release adds records in the transactions of the
-- application, so nothing here may make them wait: no unique key, no foreign key, no notification.

CREATE TABLE zdd.witness (
    name        text PRIMARY KEY,
    release_id  bigint NOT NULL,
    counts_from xid8
);
COMMENT ON TABLE zdd.witness IS 'which release the witness of a plan records for';
COMMENT ON COLUMN zdd.witness.name IS 'name of the plan';
COMMENT ON COLUMN zdd.witness.counts_from IS
    'first transaction whose writer must write both sides; null: nothing is recorded';

CREATE SEQUENCE zdd.witness_missed;
COMMENT ON SEQUENCE zdd.witness_missed IS 'grows when a record could not be written, so that it is known';

CREATE TABLE zdd.witness_record (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    release_id       bigint NOT NULL,
    key              jsonb NOT NULL,
    side             text NOT NULL,
    operation        text NOT NULL,
    is_checked       boolean NOT NULL,
    is_foreign       boolean NOT NULL,
    xid              xid8 NOT NULL,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    role             text NOT NULL,
    session_role     text NOT NULL,
    application_name text NOT NULL,
    address          text NOT NULL,
    pid              integer NOT NULL
);
COMMENT ON TABLE zdd.witness_record IS 'new records of the witness; the agent moves them to zdd.witness_row';
COMMENT ON COLUMN zdd.witness_record.key IS 'key as an array of texts; empty for TRUNCATE';
COMMENT ON COLUMN zdd.witness_record.side IS 'old or new: the side that was written';
COMMENT ON COLUMN zdd.witness_record.is_checked IS
    'both sides were compared at commit and differ; false: they could not be compared there';
COMMENT ON COLUMN zdd.witness_record.is_foreign IS 'the transaction began after every pod wrote both sides';

CREATE TABLE zdd.witness_row (
    release_id       bigint NOT NULL REFERENCES zdd.release,
    key              jsonb NOT NULL,
    application_name text NOT NULL,
    address          text NOT NULL,
    role             text NOT NULL,
    side             text NOT NULL,
    operation        text NOT NULL,
    session_role     text NOT NULL,
    is_checked       boolean NOT NULL,
    is_foreign       boolean NOT NULL,
    writes           bigint NOT NULL DEFAULT 1,
    first_at         timestamptz NOT NULL,
    last_at          timestamptz NOT NULL,
    xid              xid8 NOT NULL,
    settled_at       timestamptz,
    outcome          text NOT NULL DEFAULT '' CHECK (outcome IN ('', 'agreed', 'repaired')),
    error            text NOT NULL DEFAULT '',
    PRIMARY KEY (release_id, key, application_name, address, role)
);
CREATE INDEX witness_row_open ON zdd.witness_row (release_id, first_at) WHERE settled_at IS NULL;
COMMENT ON TABLE zdd.witness_row IS 'rows whose two sides a writer left different, by row and writer';
COMMENT ON COLUMN zdd.witness_row.operation IS 'of the last write';
COMMENT ON COLUMN zdd.witness_row.settled_at IS 'when both sides were found equal, or made equal; null: open';
COMMENT ON COLUMN zdd.witness_row.error IS 'why the row could not be copied again';

CREATE TABLE zdd.witness_writer (
    release_id       bigint NOT NULL REFERENCES zdd.release,
    application_name text NOT NULL,
    address          text NOT NULL,
    role             text NOT NULL,
    session_role     text NOT NULL,
    rows             bigint NOT NULL,
    open_rows        bigint NOT NULL,
    pod              text,
    first_at         timestamptz NOT NULL,
    last_at          timestamptz NOT NULL,
    PRIMARY KEY (release_id, application_name, address, role)
);
COMMENT ON TABLE zdd.witness_writer IS 'writers that wrote only one side, from zdd.witness_row; the agent writes it';
COMMENT ON COLUMN zdd.witness_writer.address IS 'client address; empty for a local socket';
COMMENT ON COLUMN zdd.witness_writer.pod IS 'the pod that had the address; empty: none; null: not looked up';
COMMENT ON COLUMN zdd.witness_writer.role IS 'role in effect; session_role is the one that logged in';

CREATE TRIGGER notify_insert AFTER INSERT ON zdd.witness_writer REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();
CREATE TRIGGER notify_update AFTER UPDATE ON zdd.witness_writer REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.notify_change();

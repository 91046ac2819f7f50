-- Evidence that no system can be asked for: what a person answered, and what was tried with a process.

CREATE TABLE zdd.evidence (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name      text NOT NULL,
    plan_hash text NOT NULL,
    source    text NOT NULL CHECK (source IN ('person', 'trial')),
    point     text NOT NULL,
    subject   text NOT NULL DEFAULT '',
    verdict   text NOT NULL CHECK (verdict IN ('pass', 'fail', 'inconclusive', 'unknown')),
    what      text NOT NULL CHECK (what <> ''),
    actor     text NOT NULL,
    host      text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX evidence_name ON zdd.evidence (name, id);
COMMENT ON TABLE zdd.evidence IS 'answers and trials for `zdd doctor`: append-only';
COMMENT ON COLUMN zdd.evidence.name IS 'of the plan';
COMMENT ON COLUMN zdd.evidence.plan_hash IS 'an answer counts for this version of the plan';
COMMENT ON COLUMN zdd.evidence.point IS 'of the checklist';
COMMENT ON COLUMN zdd.evidence.subject IS 'of a trial: the image that was tried';

CREATE FUNCTION zdd.refuse_evidence_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'zdd.evidence is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON zdd.evidence
    FOR EACH STATEMENT EXECUTE FUNCTION zdd.refuse_evidence_change();
ALTER TABLE zdd.evidence ENABLE ALWAYS TRIGGER append_only;

"""The new side compared with the old one on a real PostgreSQL: what is lost is refused, what is carried is found."""

from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import make_plan
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.checks.catalog_diff import SideReport, check_new_side, compare_planned_side, find_losses, read_sides
from zdd_tui.model.advice.carry_over import add_missing_ddl
from zdd_tui.model.ddl import archive_statements, drop_archive_statements
from zdd_tui.model.ddl.catalog_diff import SideVerdict, compare_sides
from zdd_tui.model.errors import DatabaseError, PlanError
from zdd_tui.model.plan.base import Plan

ACCOUNTS = """
CREATE ROLE {role};
CREATE TABLE owners (id bigint PRIMARY KEY);
CREATE TABLE accounts (
  id bigint PRIMARY KEY, acct text NOT NULL DEFAULT 'none' CONSTRAINT acct_check CHECK (length(acct) > 2),
  owner bigint CONSTRAINT owner_fkey REFERENCES owners ON DELETE CASCADE);
GRANT SELECT (acct) ON accounts TO {role};
COMMENT ON COLUMN accounts.acct IS 'the account';
"""


@pytest.fixture
async def role(db: asyncpg.Connection) -> Any:
    """The name of a role that the test may create; roles belong to the server, not to the database."""
    name = "reporting_" + (await db.fetchval("SELECT current_database()")).removeprefix("test_")
    yield name
    if await db.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name):
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def plan_of(**change: Any) -> Plan:
    """A plan with this change, and nothing accepted unless said so."""
    accept = change.pop("accept", [])
    document = make_plan().model_dump(mode="json") | {
        "database": {"dsn": "postgresql://x@y/z"},
        "accept": [{"what": what, "reason": "tested"} for what in accept],
    }
    document["flags"] |= {"url": "redis://x"}
    document["change"] = change
    return Plan.model_validate(document)


def verdicts(report: SideReport) -> dict[str, str]:
    return {each.what: str(each.verdict) for each in report.differences}


async def lost(db: asyncpg.Connection, plan: Plan) -> list[str]:
    report = await compare_planned_side(db, plan)
    return sorted(each.what for each in report.differences if each.verdict is SideVerdict.LOST)


ACCT = {
    "table": "accounts",
    "expand": "ALTER TABLE accounts ADD COLUMN account text; ALTER TABLE accounts ADD COLUMN holder bigint",
    "up": {"account": "acct", "holder": "owner"},
    "down": {"acct": "account", "owner": "holder"},
}


async def test_a6_foreign_key_check_and_column_grant_are_refused_with_the_lines_that_carry_them(
    db: asyncpg.Connection, role: str
) -> None:
    await db.execute(ACCOUNTS.format(role=role))
    before = await db.fetch("SELECT oid, relname FROM pg_class ORDER BY 1")
    with pytest.raises(PlanError) as refused:
        await check_new_side(db, plan_of(**ACCT))
    assert await db.fetch("SELECT oid, relname FROM pg_class ORDER BY 1") == before
    assert await lost(db, plan_of(**ACCT)) == [
        "check acct_check",
        "comment acct",
        "default acct",
        "foreign-key owner_fkey",
        f"grant SELECT(acct) to {role}",
        "not-null acct",
    ]
    text = str(refused.value)
    assert f"GRANT SELECT (account) ON public.accounts TO {role};" in text
    assert "FOREIGN KEY (holder) REFERENCES public.owners (id) ON DELETE CASCADE NOT VALID" in text
    assert "CHECK (length(account) > 2) NOT VALID" in text
    assert "- what: foreign-key owner_fkey" in text


async def test_a6_what_the_hint_says_carries_everything(db: asyncpg.Connection, role: str) -> None:
    await db.execute(ACCOUNTS.format(role=role))
    change, report = await carry_over(db, ACCT)
    assert set(verdicts(report).values()) == {"carried"}
    assert set(verdicts(await check_new_side(db, plan_of(**change))).values()) == {"carried"}


async def test_a7_collation_of_a_unique_column(db: asyncpg.Connection) -> None:
    await db.execute(
        "CREATE COLLATION ci (provider = libc, locale = 'C');"
        "CREATE TABLE users (id bigint PRIMARY KEY, email text COLLATE ci UNIQUE)"
    )
    change: dict[str, Any] = {
        "table": "users",
        "expand": "ALTER TABLE users ADD COLUMN mail text",
        "indexes": ["CREATE UNIQUE INDEX CONCURRENTLY users_mail_key ON users (mail)"],
        "up": {"mail": "email"},
        "down": {"email": "mail"},
    }
    with pytest.raises(PlanError, match="lost: collation email: mail has") as refused:
        await check_new_side(db, plan_of(**change))
    assert "ADD COLUMN mail text COLLATE public.ci" in str(refused.value)
    change["expand"] += " COLLATE ci"
    report = await check_new_side(db, plan_of(**change))
    assert verdicts(report) == {"collation email": "carried", "unique users_email_key": "harmless"}


async def test_a5_policies_publication_and_grants_of_a_replaced_table(db: asyncpg.Connection, role: str) -> None:
    await db.execute(
        f"CREATE ROLE {role}; CREATE TABLE notes (id bigint PRIMARY KEY, tenant text, body text);"
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes REPLICA IDENTITY FULL;"
        "CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant', true));"
        f"CREATE PUBLICATION cdc FOR TABLE notes; GRANT SELECT, INSERT ON notes TO {role}"
    )
    change: dict[str, Any] = {
        "table": "notes",
        "into": "memos",
        "expand": "CREATE TABLE memos (id bigint PRIMARY KEY, tenant text, body text)",
        "up": {"tenant": "tenant", "body": "body"},
        "down": {"tenant": "tenant", "body": "body"},
    }
    wanted = [
        f"grant INSERT to {role}",
        f"grant SELECT to {role}",
        "policy own",
        "publication cdc",
        "replica-identity",
        "row-security",
    ]
    assert await lost(db, plan_of(**change)) == wanted
    assert set(verdicts(await check_new_side(db, plan_of(**change, accept=wanted))).values()) == {"carried", "lost"}
    report = await compare_planned_side(db, plan_of(**change))
    change["expand"] = ";\n".join([change["expand"], *(s.sql for each in report.differences for s in each.statements)])
    report = await check_new_side(db, plan_of(**change))
    assert set(verdicts(report).values()) == {"carried"}
    assert set(wanted) <= set(verdicts(report))


async def test_b7_published_table_gets_a_column(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text); CREATE PUBLICATION feed FOR TABLE t")
    with pytest.raises(PlanError, match=r"lost: subscribers feed: .* \"missing replicated column\"") as refused:
        await check_new_side(db, plan_of(**SIMPLE))
    hint = str(refused.value)
    assert "before expand, add b to the table of every subscriber" in hint
    assert "ALTER PUBLICATION feed DROP TABLE public.t; ALTER PUBLICATION feed ADD TABLE public.t (id, a)" in hint
    accepted = plan_of(**SIMPLE, accept=["subscribers feed"])
    await check_new_side(db, accepted)
    await db.execute(SIMPLE["expand"])
    assert await find_losses(db, accepted) == (), "the gates do not ask again: it concerns the first step"
    await db.execute("ALTER TABLE t DROP COLUMN b")
    # The way that the hint shows: the new column is not published.
    await db.execute("ALTER PUBLICATION feed DROP TABLE public.t; ALTER PUBLICATION feed ADD TABLE public.t (id, a)")
    assert "subscribers feed" not in await lost(db, plan_of(**SIMPLE))


async def test_an_entry_of_accept_that_matches_nothing_is_told(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text DEFAULT 'x')")
    for misspelt in ("defualt a", "default aa", "Default a"):
        with pytest.raises(PlanError, match=f"accept: {misspelt} matches nothing; did you mean default a"):
            await check_new_side(db, plan_of(**SIMPLE, accept=[misspelt]))
    plan = plan_of(**SIMPLE, accept=["default a", "grnat SELECT(a) to x", "comment a", "lossy-rollback a", "nonsense"])
    notes = [line for line in (await check_new_side(db, plan)).lines(plan) if line.startswith("note: accept: ")]
    assert notes == [
        "note: accept: grnat SELECT(a) to x matches nothing: no check names a loss grnat …; did you mean"
        " grant SELECT(a) to x?",
        "note: accept: comment a is not lost; remove it",
        "note: accept: nonsense matches nothing: no check names a loss nonsense …",
    ]


async def test_b8_view_on_the_old_column(db: asyncpg.Connection) -> None:
    await db.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, a text, c text); CREATE VIEW v AS SELECT id, a FROM t;"
        "CREATE VIEW other AS SELECT c FROM t"
    )
    with pytest.raises(PlanError, match=r"lost: view public\.v: it uses a") as refused:
        await check_new_side(db, plan_of(**SIMPLE))
    assert "replace it by one on the new side before contract" in str(refused.value)
    accepted = plan_of(**SIMPLE, accept=["view public.v"])
    await check_new_side(db, accepted)
    await db.execute(SIMPLE["expand"])
    assert await find_losses(db, accepted) == ()
    assert [each.what for each in await find_losses(db, accepted, at_end=True)] == ["view public.v"]
    await db.execute("CREATE OR REPLACE VIEW v AS SELECT id, b AS a FROM t")
    assert await find_losses(db, accepted, at_end=True) == ()


SIMPLE: dict[str, Any] = {
    "table": "t",
    "expand": "ALTER TABLE t ADD COLUMN b text",
    "up": {"b": "a"},
    "down": {"a": "b"},
}


@pytest.mark.parametrize(
    ("ddl", "what"),
    [
        ("ALTER TABLE t ALTER a SET NOT NULL", ["not-null a"]),
        ("ALTER TABLE t ALTER a SET DEFAULT 'x'", ["default a"]),
        ("ALTER TABLE t ADD CHECK (a <> '')", ["check t_a_check"]),
        ("ALTER TABLE t ADD CONSTRAINT two CHECK (a < c)", ["check two"]),
        ("ALTER TABLE t ADD UNIQUE (a)", ["unique t_a_key"]),
        ("ALTER TABLE t ADD UNIQUE (c, a) DEFERRABLE", ["unique t_c_a_key"]),
        ("ALTER TABLE t ADD EXCLUDE USING btree (a WITH =)", ["exclusion t_a_excl"]),
        ("CREATE INDEX i ON t (lower(a) DESC) WHERE c IS NOT NULL", ["index i"]),
        ("CREATE INDEX i ON t (c) INCLUDE (a)", ["index i"]),
        ("CREATE INDEX i ON t (c) WHERE a <> ''", ["index i"]),
        ("CREATE STATISTICS s ON a, c FROM t", ["statistics s"]),
        ("ALTER TABLE t ALTER a SET STATISTICS 500", ["storage a"]),
        ("ALTER TABLE t ALTER a SET STORAGE external", ["storage a"]),
        ("COMMENT ON COLUMN t.a IS 'text'", ["comment a"]),
        ("CREATE POLICY p ON t USING (a = current_user)", ["policy p"]),
        ("ALTER TABLE t ADD g text GENERATED ALWAYS AS (lower(a)) STORED", ["dependent generated column g"]),
        ("CREATE RULE r AS ON UPDATE TO t WHERE new.a = '' DO INSTEAD NOTHING", ["rule r"]),
        ("CREATE MATERIALIZED VIEW m AS SELECT a FROM t", ["materialized-view public.m"]),
        (
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT max(a) FROM t; END",
            ["function public.f()"],
        ),
        ("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT max(a) FROM t'", ["function public.f()"]),
        ("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT max(c) FROM t'", []),
        (
            "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.a := 1; RETURN NEW; END';"
            "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION g()",
            ["trigger x"],
        ),
        (
            "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER x BEFORE UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION g()",
            ["trigger x"],
        ),
        (
            "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION g()",
            [],
        ),
        ("CREATE UNIQUE INDEX u ON t (a); CREATE TABLE o (r text REFERENCES t (a))", [
            "index u", "referencing-key o_r_fkey of public.o",
        ]),
        ("CREATE DOMAIN d AS text NOT NULL CHECK (VALUE <> ''); ALTER TABLE t ALTER a TYPE d", [
            "check d_check", "not-null a",
        ]),
        ("ALTER TABLE t ALTER a TYPE varchar(10)", []),
        ("CREATE PUBLICATION pub FOR TABLE t (id, a)", ["publication pub"]),
        ("CREATE PUBLICATION pub FOR TABLE t WHERE (a <> '')", ["publication pub", "subscribers pub"]),
        ("CREATE PUBLICATION pub FOR ALL TABLES", ["subscribers pub"]),
        ("CREATE SEQUENCE s; ALTER TABLE t ALTER a SET DEFAULT nextval('s')::text", ["default a"]),
    ],
)  # fmt: skip
async def test_each_kind_of_object_on_an_old_column(db: asyncpg.Connection, ddl: str, what: list[str]) -> None:
    await db.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text, c text)")
    await db.execute(ddl)
    assert await lost(db, plan_of(**SIMPLE)) == what
    # What has statements is carried by them; the rest must be accepted.
    change, report = await carry_over(db, SIMPLE)
    left = [each.what for each in report.differences if each.verdict is SideVerdict.LOST and not each.statements]
    report = await check_new_side(db, plan_of(**change, accept=left))
    assert [each.what for each in report.differences if each.verdict is SideVerdict.LOST] == left


async def carry_over(db: asyncpg.Connection, change: dict[str, Any]) -> tuple[dict[str, Any], SideReport]:
    """The change with every statement that the differences suggest."""
    for _ in range(4):
        report = await compare_planned_side(db, plan_of(**change))
        added = add_missing_ddl(change, report.differences)
        if added == change:
            break
        change = added
    return change, report


WIDE = """
CREATE COLLATION ci (provider = libc, locale = 'C');
CREATE TABLE owners (id bigint PRIMARY KEY);
CREATE TABLE wide (
  id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  name text COLLATE ci NOT NULL DEFAULT 'x' CHECK (name <> ''), amount numeric(10,2) DEFAULT 0,
  owner bigint REFERENCES owners ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
  parent bigint REFERENCES wide, tenant text, UNIQUE (tenant, name), CHECK (amount >= 0) NOT VALID
) WITH (fillfactor = 70);
CREATE INDEX wide_name_idx ON wide USING hash (name);
CREATE INDEX wide_amount_idx ON wide (amount DESC NULLS LAST) INCLUDE (tenant) WHERE amount > 0;
CREATE STATISTICS wide_stats (ndistinct, dependencies) ON tenant, name FROM wide;
CREATE TABLE lines (wide_id bigint REFERENCES wide ON DELETE CASCADE);
ALTER TABLE wide ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON wide AS RESTRICTIVE FOR SELECT TO {role} USING (tenant = current_user);
CREATE POLICY pair ON wide USING (EXISTS (SELECT FROM owners o WHERE o.id = wide.owner)) WITH CHECK (amount > 1);
GRANT SELECT, UPDATE (name) ON wide TO {role}; GRANT DELETE ON wide TO PUBLIC;
ALTER TABLE wide ALTER tenant SET STATISTICS 300, REPLICA IDENTITY FULL;
COMMENT ON TABLE wide IS 'a wide table'; COMMENT ON COLUMN wide.tenant IS 'who';
CREATE PUBLICATION feed FOR TABLE wide;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON wide FOR EACH ROW EXECUTE FUNCTION touch();
"""
SAME = {name: name for name in ("name", "amount", "owner", "parent", "tenant")}
WIDE_CHANGE: dict[str, Any] = {
    "table": "wide",
    "into": "broad",
    "expand": "CREATE TABLE broad (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text COLLATE ci,"
    " amount numeric(10,2), owner bigint, parent bigint, tenant text)",
    "up": SAME,
    "down": SAME,
}


async def test_a_table_with_every_kind_of_object_is_carried_as_a_whole(db: asyncpg.Connection, role: str) -> None:
    await db.execute(f"CREATE ROLE {role}")
    await db.execute(WIDE.format(role=role))
    first = await lost(db, plan_of(**WIDE_CHANGE))
    assert len(first) > 20, first
    change, report = await carry_over(db, WIDE_CHANGE)
    assert {each.what for each in report.differences if each.verdict is SideVerdict.LOST} == set()
    # The real thing, by the plan's own statements, and judged again as it is.
    for sql in [change["expand"], *change["indexes"], *change["constrain"]]:
        await db.execute(sql)
    assert await find_losses(db, plan_of(**change), at_end=True) == ()
    assert set(verdicts(await compare_real(db, plan_of(**change))).values()) <= {"carried", "harmless"}
    for loss in (
        "ALTER TABLE broad DROP CONSTRAINT wide_name_check_broad",
        "DROP POLICY pair ON broad",
        f"REVOKE UPDATE (name) ON broad FROM {role}",
        "ALTER PUBLICATION feed DROP TABLE broad",
        "ALTER TABLE broad ALTER name DROP NOT NULL",
        "DROP INDEX wide_amount_idx_broad",
        "ALTER TABLE lines DROP CONSTRAINT lines_wide_id_fkey_broad",
        "ALTER TABLE broad NO FORCE ROW LEVEL SECURITY; ALTER TABLE broad DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE broad RESET (fillfactor)",
        "DROP TRIGGER touch ON broad",
        "ALTER TABLE broad ALTER tenant SET STATISTICS -1",
    ):
        transaction = db.transaction()
        await transaction.start()
        await db.execute(loss)
        assert len(await find_losses(db, plan_of(**change), at_end=True)) == 1, loss
        await transaction.rollback()
    # The old table goes, although a foreign key of another table refers to it; its successor stays.
    plan = plan_of(**change)
    for build in (archive_statements, drop_archive_statements):
        async with db.transaction():
            for statement in build(plan, await read_catalog(db, plan)):
                await db.execute(statement)
    assert await db.fetchval("SELECT to_regclass('zdd_archive.wide')") is None
    keys = "SELECT confrelid::regclass::text FROM pg_constraint WHERE conrelid = 'lines'::regclass AND contype = 'f'"
    assert [row["confrelid"] for row in await db.fetch(keys)] == ["broad"]


async def test_rights_on_the_sequence_behind_a_key(db: asyncpg.Connection, role: str) -> None:
    await db.execute(
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA public TO {role};"
        "CREATE TABLE old (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, a text);"
        f"GRANT SELECT, INSERT ON old TO {role}"
    )
    change: dict[str, Any] = {
        "table": "old",
        "into": "new",
        "expand": "CREATE TABLE new (id bigint PRIMARY KEY DEFAULT nextval('old_id_seq'), a text);"
        f"GRANT SELECT, INSERT ON new TO {role}",
        "up": {"a": "a"},
        "down": {"a": "a"},
    }
    # An identity needs no right on its sequence; a default does.
    assert await lost(db, plan_of(**change)) == [f"grant USAGE on sequence old_id_seq to {role}"]
    change["expand"] += f"; GRANT USAGE ON SEQUENCE old_id_seq TO {role}"
    plan = plan_of(**change)
    await check_new_side(db, plan)
    await db.execute(change["expand"])
    for build in (archive_statements, drop_archive_statements):
        async with db.transaction():
            for statement in build(plan, await read_catalog(db, plan)):
                await db.execute(statement)
    await db.execute(f"SET ROLE {role}")
    try:
        assert await db.fetchval("INSERT INTO new (a) VALUES ('x') RETURNING id") == 1
    finally:
        await db.execute("RESET ROLE")


async def test_the_owner_of_a_replaced_table(db: asyncpg.Connection, role: str) -> None:
    await db.execute(f"CREATE ROLE {role}; CREATE TABLE old (id bigint PRIMARY KEY, a text)")
    await db.execute(f"ALTER TABLE old OWNER TO {role}")
    change: dict[str, Any] = {
        "table": "old",
        "into": "new",
        "expand": "CREATE TABLE new (id bigint PRIMARY KEY, a text)",
        "up": {"a": "a"},
        "down": {"a": "a"},
    }
    assert await lost(db, plan_of(**change)) == [f"owner {role}"]
    change["expand"] += f"; ALTER TABLE new OWNER TO {role}"
    await check_new_side(db, plan_of(**change))


async def test_a_plan_with_types_and_sequences_of_its_own_is_judged_on_a_copy(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE old (id bigint PRIMARY KEY, a text)")
    change: dict[str, Any] = {
        "table": "old",
        "into": "new",
        "expand": "CREATE TYPE public.mood AS ENUM ('good', 'bad'); CREATE SEQUENCE public.new_seq;"
        "CREATE TABLE new (id bigint PRIMARY KEY DEFAULT nextval('public.new_seq'), a text, m public.mood);"
        "COMMENT ON COLUMN public.new.m IS 'mood'; CREATE STATISTICS s ON a, m FROM new",
        "up": {"a": "a"},
        "down": {"a": "a"},
    }
    before = await db.fetch("SELECT oid FROM pg_class UNION ALL SELECT oid FROM pg_type ORDER BY 1")
    await check_new_side(db, plan_of(**change))
    assert await db.fetch("SELECT oid FROM pg_class UNION ALL SELECT oid FROM pg_type ORDER BY 1") == before


@pytest.mark.timeout(60)
async def test_a_check_does_not_queue_behind_a_lock(db: asyncpg.Connection, pg_dsn: str) -> None:
    await db.execute("CREATE TABLE o (k text PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, a text REFERENCES o)")
    other = await asyncpg.connect(pg_dsn)
    change, _ = await carry_over(db, SIMPLE)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE o IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseError, match="locked by another session"):
                await compare_planned_side(db, plan_of(**change))
        await check_new_side(db, plan_of(**change))
    finally:
        await other.close()


async def test_the_constraint_of_not_null_has_a_name_and_a_comment(db: asyncpg.Connection) -> None:
    """Its name matters only to statements that use it; its comment is lost like that of any other constraint."""
    if db.get_server_version().major < 18:
        pytest.skip("NOT NULL is no constraint before PostgreSQL 18")
    await db.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, a text CONSTRAINT a_given NOT NULL, c text NOT NULL);"
        "COMMENT ON CONSTRAINT a_given ON t IS 'asked for by audit'; COMMENT ON CONSTRAINT t_c_not_null ON t IS 'c'"
    )
    new = "CREATE TABLE n (id bigint PRIMARY KEY, a text CONSTRAINT {name} NOT NULL, c text NOT NULL)"
    change = {"table": "t", "into": "n", "up": {"a": "a", "c": "c"}, "down": {"a": "a", "c": "c"}}
    for name, verdict in (("a_given", "carried"), ("other", "harmless")):
        report = await compare_planned_side(db, plan_of(**change, expand=new.format(name=name)))
        found = {each.what: each for each in report.differences}
        assert found["not-null a"].verdict == verdict
        assert found["not-null c"].verdict == "carried", "nobody has chosen its name"
        lost = found["comment of not-null a"]
        assert lost.verdict == "lost"
        assert f"COMMENT ON CONSTRAINT {name} ON public.n IS 'asked for by audit'" in lost.advice
    assert "other" in found["not-null a"].reason
    accepted = plan_of(
        **change, expand=new.format(name="a_given"), accept=["comment of not-null a", "comment of not-null c"]
    )
    await check_new_side(db, accepted)
    await db.execute(new.format(name="a_given"))
    await db.execute("COMMENT ON CONSTRAINT a_given ON n IS 'asked for by audit'")
    await db.execute("COMMENT ON CONSTRAINT n_c_not_null ON n IS 'c'")
    assert verdicts(await compare_real(db, accepted))["comment of not-null a"] == "carried"
    assert await find_losses(db, plan_of(**change, expand=new.format(name="a_given")), at_end=True) == ()


async def compare_real(db: asyncpg.Connection, plan: Plan) -> SideReport:
    catalog = await read_catalog(db, plan)
    old, new = await read_sides(db, plan, catalog)
    assert old is not None
    assert new is not None
    return SideReport(compare_sides(plan, old, new, key=catalog.key_names))

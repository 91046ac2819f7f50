"""Plans that are derived pass the plan's own lint; what cannot be derived is asked for."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zdd_tui.model.advice.draft import PlanTarget, build_plan_document, find_missing_inputs, format_yaml
from zdd_tui.model.advice.locks import evaluate_statements
from zdd_tui.model.advice.migration import DatabaseStats, LiveTableStats, mark_new_tables, read_migration
from zdd_tui.model.advice.plan_from_migration import DerivedChange, UserAnswers, derive_change, retarget_index
from zdd_tui.model.ddl.lint import lint_plan_sql
from zdd_tui.model.plan.base import Plan, TableName
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.sql import find_placeholder, quote_identifier

LIVE = DatabaseStats(
    "here",
    {
        "public.users": LiveTableStats(
            TableName(name="users"),
            *(1000, 2**20, 2**20),
            columns={"id": "bigint", "mail": "text", "amount": "integer", "Odd One": "text"},
            key=("id",),
            defaults={"id": "nextval('users_id_seq'::regclass)", "amount": "0"},
            not_null=frozenset({"id", "amount"}),
            indexes=(
                "CREATE INDEX users_mail ON public.users USING btree (lower(mail)) WHERE (mail <> ''::text)",
                "CREATE UNIQUE INDEX users_amount ON public.users USING btree (amount)",
            ),
            triggers=("audit",),
        )
    },
)
IMAGES = PlanTarget(deployment="api", v2="a:2", v3="a:3")


def derived(sql: str, live: DatabaseStats | None = LIVE, **answers: dict[str, str]) -> DerivedChange:
    statements = mark_new_tables(read_migration(sql, "m.sql"))
    return derive_change(evaluate_statements(statements, live), live, UserAnswers(**answers))


def accepted(found: DerivedChange) -> dict[str, Any]:
    """The change section, after the whole way through a file and the plan's checks."""
    assert found.change is not None, found.missing_inputs
    text = format_yaml(build_plan_document("expand-contract", IMAGES, found.change), "because")
    loaded = load_plan(text, source="p", environment={"DATABASE_URL": "postgresql://x@y/z", "REDIS_URL": "redis://x"})
    assert isinstance(loaded.plan, Plan)
    lint_plan_sql(loaded.plan)
    return found.change


def plan_of(change: dict[str, Any]) -> dict[str, Any]:
    secrets = {"database": {"dsn": "postgresql://x@y/z"}}
    plan = build_plan_document("expand-contract", IMAGES, change) | secrets
    return plan | {"flags": plan["flags"] | {"url": "redis://x"}}


def test_a_rename_is_a_new_column_with_the_old_ones_indexes() -> None:
    change = accepted(derived("ALTER TABLE users RENAME COLUMN mail TO email"))
    assert change == {
        "table": "public.users",
        "expand": "ALTER TABLE public.users ADD COLUMN email text",
        "indexes": [
            "CREATE INDEX CONCURRENTLY users_mail_email ON public.users USING btree (lower(email))"
            " WHERE email <> ''::text"
        ],
        "up": {"email": "mail"},
        "down": {"mail": "email"},
        "dual_write": "application",
    }


def test_names_that_need_quotes_get_them() -> None:
    change = accepted(derived('ALTER TABLE users RENAME COLUMN "Odd One" TO "user"'))
    assert change["up"] == {"user": '"Odd One"'}
    assert change["down"] == {"Odd One": '"user"'}


# Without placeholders of templates, which are refused. Without control characters: the lint reads some of them, such as
# U+0085, as white space, and refuses the plan.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=15).filter(
    lambda name: len(name.encode()) <= 60 and find_placeholder(quote_identifier(name)) is None
)
types = st.sampled_from(["text", "bigint", "numeric(10,2)", "timestamptz", "double precision", "uuid", "int[]"])


@settings(max_examples=40, deadline=None)
@given(names, names, names, types)
def test_any_name_survives_the_way_into_the_plan(table: str, old: str, new: str, kind: str) -> None:
    assume(old != new)
    sql = f"ALTER TABLE {quote_identifier(table)} RENAME COLUMN {quote_identifier(old)} TO {quote_identifier(new)}"
    change = accepted(derived(sql, None, types={old: kind}))
    loaded = Plan.model_validate(plan_of(change)).change
    assert loaded.table.name == table
    assert set(loaded.up) == {new}
    assert set(loaded.down) == {old}


@settings(max_examples=40, deadline=None)
@given(names, types, types)
def test_any_type_change_casts_both_ways(old: str, before: str, after: str) -> None:
    change = accepted(
        derived(f"ALTER TABLE users ALTER {quote_identifier(old)} TYPE {after}", None, types={old: before})
    )
    [(new, up)] = change["up"].items()
    assert new != old
    assert up.startswith("CAST(")
    assert change["down"][old].endswith(f"AS {before})")


def test_a_type_change_casts_both_ways() -> None:
    change = accepted(derived("ALTER TABLE users ALTER amount TYPE numeric(12,2) USING amount / 100.0"))
    assert change["expand"] == "ALTER TABLE public.users ADD COLUMN amount_v2 numeric(12, 2)"
    assert change["up"] == {"amount_v2": "CAST(amount / 100.0 AS numeric(12, 2))"}
    assert change["down"] == {"amount": "CAST(amount_v2 AS integer)"}
    assert any("users_amount_amount_v2" in index and "UNIQUE" in index for index in change["indexes"])


def test_a_rename_and_a_type_change_of_one_column() -> None:
    sql = "ALTER TABLE users RENAME COLUMN amount TO cents; ALTER TABLE users ALTER cents TYPE bigint USING cents * 100"
    change = accepted(derived(sql))
    assert change["up"] == {"cents": "CAST(amount * 100 AS bigint)"}
    assert change["down"] == {"amount": "CAST(cents AS integer)"}


def test_a_merge_is_asked_for_and_answered() -> None:
    sql = "ALTER TABLE users ADD COLUMN label text; ALTER TABLE users DROP COLUMN mail"
    requested = derived(sql)
    assert requested.change is None
    assert {(ask.option, ask.name) for ask in requested.missing_inputs} == {("--up", "label"), ("--down", "mail")}
    change = accepted(derived(sql, up={"label": "lower(mail)"}, down={"mail": "label"}))
    assert change["up"] == {"label": "lower(mail)"}
    assert "indexes" not in change
    text = derived(sql, up={"label": "lower(mail)"}, down={"mail": "label"}).notes
    assert any("without a successor" in note and "users_mail" in note for note in text)


def test_additive_columns_come_along_and_the_rest_is_named() -> None:
    sql = (
        "ALTER TABLE users RENAME COLUMN mail TO email;\nALTER TABLE users ADD age int DEFAULT 0 -- years\n;\n"
        "CREATE INDEX i ON users (email);\nUPDATE users SET amount = 1;\nALTER TABLE other ADD x int"
    )
    found = derived(sql)
    change = accepted(found)
    assert change["expand"].endswith("ADD COLUMN age int DEFAULT 0")
    assert change["indexes"][0] == "CREATE INDEX CONCURRENTLY i ON users USING btree (email)"
    assert any(note.startswith("m.sql:5 is not in the plan") for note in found.notes)
    assert any(note.startswith("m.sql:6 is not in the plan") for note in found.notes)
    assert any("audit" in note for note in found.notes)


def test_columns_of_the_same_statement_come_along_whole() -> None:
    sql = "ALTER TABLE users ALTER amount TYPE bigint, ADD COLUMN kind text NOT NULL DEFAULT 'a  b'"
    found = derived(sql)
    assert accepted(found)["expand"].endswith(";\nALTER TABLE users ADD COLUMN kind text NOT NULL DEFAULT 'a  b'")
    assert "amount is NOT NULL and DEFAULT: amount_v2 gets the same in change.constrain" in found.notes


@pytest.mark.parametrize(
    ("changed", "message"), [({"key": ()}, "no primary key"), ({"is_ordinary": False}, "partitioned")]
)
def test_tables_that_zdd_cannot_change(changed: dict[str, Any], message: str) -> None:
    live = DatabaseStats("here", {"public.users": replace(LIVE.tables["public.users"], **changed)})
    for sql in ("ALTER TABLE users RENAME COLUMN mail TO email", "ALTER TABLE users RENAME TO people"):
        assert message in str(derived(sql, live).missing_inputs[0])


def test_not_null_asks_what_stands_in_place_of_null() -> None:
    requested = derived("ALTER TABLE users ALTER mail SET NOT NULL")
    assert [(ask.option, ask.name) for ask in requested.missing_inputs] == [("--up", "mail_v2")]
    assert any("VALIDATE CONSTRAINT" in note for note in requested.notes)
    change = accepted(derived("ALTER TABLE users ALTER mail SET NOT NULL", up={"mail_v2": "coalesce(mail, '')"}))
    assert change["down"] == {"mail": "mail_v2"}


def test_a_renamed_table_is_a_new_table() -> None:
    found = derived("ALTER TABLE users RENAME TO people")
    change = accepted(found)
    assert change["into"] == "public.people"
    assert "id bigint DEFAULT nextval('users_id_seq'::regclass)" in change["expand"]
    assert "PRIMARY KEY (id)" in change["expand"]
    assert change["up"] == {"mail": "mail", "amount": "amount", "Odd One": '"Odd One"'} == change["down"]
    assert len(change["indexes"]) == 2
    assert any("audit" in note for note in found.notes)


@pytest.mark.parametrize(
    ("sql", "live", "message"),
    [
        ("ALTER TABLE users RENAME COLUMN mail TO email", None, '--type "mail=…"'),
        ("ALTER TABLE users RENAME TO people", None, "--dsn"),
        ("ALTER TABLE users RENAME COLUMN maill TO email", LIVE, "has no column maill"),
        ("ALTER TABLE users ALTER id TYPE numeric", LIVE, "is the key"),
        ("DROP TABLE users", LIVE, "no older pod is left"),
        ("DROP TYPE mood", LIVE, "changes no table"),
        ("DROP TABLE users, others", LIVE, "breaks 2 tables"),
        ("ALTER TABLE users ADD a int NOT NULL", LIVE, '--up "a=…"'),
    ],
)
def test_missing_inputs_are_named(sql: str, live: DatabaseStats | None, message: str) -> None:
    found = derived(sql, live)
    assert found.change is None
    assert any(message in str(ask) for ask in found.missing_inputs), found.missing_inputs


def test_a_table_that_the_database_does_not_have() -> None:
    live = DatabaseStats("ana@db:5432/shop", missing_tables=(TableName(name="users"),))
    found = derived("ALTER TABLE users RENAME COLUMN a TO b", live)
    assert "public.users is not in ana@db:5432/shop" in str(found.missing_inputs[0])


def test_an_answer_that_fits_nothing_is_told() -> None:
    found = derived("ALTER TABLE users RENAME COLUMN mail TO email", up={"emial": "mail"})
    assert "--up names emial" in str(found.missing_inputs[0])


def test_indexes_on_other_columns_stay_where_they_are() -> None:
    assert retarget_index("CREATE INDEX i ON public.users USING gin (tags)", {"mail": "email"}) == ""


def test_long_names_are_cut_as_postgresql_would() -> None:
    carried = retarget_index(f"CREATE INDEX {'x' * 63} ON public.users USING btree (mail)", {"mail": "email"})
    assert "x" * 57 + "_email ON" in carried


@pytest.mark.parametrize(
    ("strategy", "target", "options"),
    [
        ("rolling", PlanTarget(), ["--deployment", "--image"]),
        ("expand-contract", PlanTarget(deployment="a"), ["--v2", "--v3"]),
        ("blue-green", PlanTarget(deployment="a", image="a:2"), ["--smoke"]),
        ("dark-launch", PlanTarget(deployment="a", image="a:2"), ["--dark-path"]),
        ("canary", PlanTarget(deployment="a", image="a:2"), []),
    ],
)
def test_what_a_plan_lacks(strategy: str, target: PlanTarget, options: list[str]) -> None:
    assert [ask.option.split()[0] for ask in find_missing_inputs(strategy, target)] == options


@pytest.mark.parametrize("strategy", ["rolling", "canary", "blue-green", "dark-launch"])
@pytest.mark.parametrize("flag", ["", "new_cart"])
def test_the_other_strategies_plans_are_plans(strategy: str, flag: str) -> None:
    target = PlanTarget(deployment="api", image="shop/api:2.1", smoke="/ready", path="cart", flag=flag)
    text = format_yaml(build_plan_document(strategy, target, None), "because")
    loaded = load_plan(text, source="p", environment={"DATABASE_URL": "postgresql://x@y/z", "REDIS_URL": "redis://x"})
    assert loaded.plan.strategy == strategy
    assert loaded.plan.name == "api-2-1"
    assert "postgresql://" not in text

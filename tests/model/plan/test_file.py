"""Plans and the errors that name file, line, key and the nearest spelling."""

import re
from pathlib import Path

import pytest

from zdd_tui.model.duration import format_duration, parse_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import TableName
from zdd_tui.model.plan.file import find_placeholders, load_plan
from zdd_tui.model.plan.registry import build_plan_schema

EXAMPLE = (Path(__file__).parents[3] / "config" / "plan.example.yaml").read_text()
ENVIRON = {"DATABASE_URL": "postgresql://app:s3cret@db/shop", "REDIS_URL": "redis://:s3cret@cache/0"}


def load(text: str, environ: dict[str, str] = ENVIRON):  # type: ignore[no-untyped-def]
    return load_plan(text, source="plan.yaml", environment=environ)


def line_of(text: str, fragment: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if fragment in line)


def test_the_example_is_a_plan() -> None:
    loaded = load(EXAMPLE)
    assert loaded.plan.change.kind == "column"
    assert loaded.plan.gates.soak == 30.0
    assert loaded.plan.change.table == TableName(schema_="public", name="users")


def test_sql_of_a_migration_is_no_place_for_variables() -> None:
    sql = "COMMENT ON TABLE t IS '${DATABASE_URL} ${NOWHERE} ${'"
    loaded = load(f"name: n\ndatabase: {{dsn: '${{DATABASE_URL}}'}}\noperations: [{{sql: \"{sql}\"}}]\n")
    assert loaded.plan.operations[0].sql == sql
    assert find_placeholders(loaded.document) == {"DATABASE_URL"}


def test_the_stored_copy_and_every_repr_keep_secrets_out() -> None:
    loaded = load(EXAMPLE)
    assert loaded.document["database"]["dsn"] == "${DATABASE_URL}"
    assert find_placeholders(loaded.document) == {"DATABASE_URL", "REDIS_URL"}
    for shown in (repr(loaded), str(loaded.plan), loaded.plan.model_dump_json(), repr(loaded.document)):
        assert "s3cret" not in shown


def test_the_hash_is_of_the_content() -> None:
    same = load("# a comment\n" + EXAMPLE.replace("batch_rows: 1000", "batch_rows:    1000"))
    assert same.hash == load(EXAMPLE).hash
    assert load(EXAMPLE.replace("soak: 30s", "soak: 31s")).hash != same.hash
    elsewhere = load(EXAMPLE, ENVIRON | {"DATABASE_URL": "postgresql://other/shop"})
    assert elsewhere.hash == same.hash, "a rotated password is not another plan"


@pytest.mark.parametrize("written", ["Expand/Contract", "expand/contract", "EXPAND-CONTRACT"])
def test_every_way_to_write_a_strategy_is_one_plan(written: str) -> None:
    loaded = load(EXAMPLE.replace("strategy: expand-contract", f"strategy: {written}"))
    assert loaded.plan.strategy == loaded.document["strategy"] == "expand-contract"
    assert loaded.hash == load(EXAMPLE).hash


@pytest.mark.parametrize(
    ("declared", "name", "expected"),
    [("", "prod-eu", True), ("", "staging", False), ("false", "prod-eu", False), ("true", "staging", True)],
)
def test_a_plan_decides_what_production_is_and_its_name_only_where_it_does_not(
    declared: str, name: str, expected: bool
) -> None:
    line = f"\nproduction: {declared}" if declared else ""
    text = re.sub(r"(?m)^(production|environment):.*\n", "", EXAMPLE) + f"environment: {name}{line}\n"
    assert load(text).plan.is_production is expected


@pytest.mark.parametrize(
    ("old", "new", "at", "key", "hint"),
    [
        ("lock_timeout:", "lock_timeot:", "lock_timeot", "database.lock_timeot", "did you mean lock_timeout?"),
        ("strategy: expand-contract", "strategy: expand-contrac", "strategy:", "strategy", "mean expand-contract?"),
        ("200ms", "soon", "lock_timeout:", "database.lock_timeout", "500ms, 10s, 2m"),
        ("  deployment: users-api\n", "", "kubernetes:", "kubernetes.deployment", "missing"),
        ("dual_write: application", "dual_write: app", "dual_write:", "change.dual_write", "application?"),
        ("batch_rows: 1000", "batch_rows: -1", "batch_rows", "backfill.batch_rows", "greater than or equal to 1"),
        ("batch_rows: 1000", "batch_rows: 90000", "backfill:", "backfill", "larger than batch_rows_max"),
        ("users-full-name", "Users Full", "Users Full", "name", "does not match"),
        ("shop/users-api:3", "shop/users-api:2", "images:", "kubernetes.images", "same image"),
        ("_read", "_write", "flags:", "flags", "must be two flags"),
        ("first_name: split", "full_name: split", "change:", "change", "either new or old"),
        ("table: public.users", "table: a.b.c", "table:", "change.table", "users or public.users"),
        ("name: users-full-name", "name: x\nname: y", "name: y", "name", "defined twice"),
        ("batch_rows: 1000", "tables: {users: {speed: 50}}", "backfill:", "backfill: tables", "into `backfill:` its"),
        ("${REDIS_URL}", "${REDIS}", "url:", "flags.url", "REDIS is not set"),
        ("${REDIS_URL}", "${}", "url:", "flags.url", "${NAME}"),
        ("- CREATE INDEX", "- 7\n    - CREATE INDEX", "- 7", "change.indexes[0]", "valid string"),
    ],
)
def test_an_error_names_file_line_key_and_hint(old: str, new: str, at: str, key: str, hint: str) -> None:
    text = EXAMPLE.replace(old, new)
    assert text != EXAMPLE
    with pytest.raises(PlanError) as caught:
        load(text)
    message = str(caught.value)
    assert f"plan.yaml:{line_of(text, at)}: {key}" in message
    assert hint in message
    assert "s3cret" not in message


OPERATIONS = """\
name: m
environment: dev
database: {dsn: "postgresql://x"}
"""

TABLE_LIMITS = "backfill: {{tables: {{{}}}}}\noperations: [DELETE FROM users]"


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        ("change: {}\noperations: [SELECT 1]", ["plan.yaml:5: operations: a plan has `change:` or `operations:`, not"]),
        ("operation: [SELECT 1]", ["operations: missing", "operation: unknown key\n  Fix: did you mean operations"]),
        ("operations: [{sql: SELECT 1, phase: contrct}]", ["operations[0].phase: expected 'expand', 'dual-write'"]),
        ("operations: [5]", ["operations[0]: expected a mapping of keys to values, got int"]),
        ('operations: [""]', ["operations[0].sql: expected a text, but it is empty"]),
        (
            TABLE_LIMITS.format("users: {spead: 50}"),
            ["plan.yaml:4: backfill.tables.users.spead: unknown key\n  Fix: did you mean speed?"],
        ),
        (
            TABLE_LIMITS.format("users: {max_failed_rows: 5}"),
            ["backfill.tables.users.max_failed_rows: unknown key\n  Fix: "],
        ),
        (
            TABLE_LIMITS.format("public.users: {speed: 5}"),
            ["backfill.tables.public.users.speed: expected greater than or equal to 10\n  Fix: "],
        ),
        (TABLE_LIMITS.format("users: {batch_budget: 1m}"), ["backfill.tables.users.batch_budget: expected less than"]),
        (TABLE_LIMITS.format("users: {batch_rows: 9, batch_rows_max: 8}"), ["batch_rows is larger than batch_rows_ma"]),
        (TABLE_LIMITS.format("users: {speed: 50}, public.Users: {speed: 50}"), ["the table users is there twice"]),
        (TABLE_LIMITS.format("a.b.c: {speed: 50}"), ["expected a table such as users or public.users, got 'a.b.c'"]),
    ],
)
def test_wrong_operations_are_reported_in_plain_words_and_once(lines: str, texts: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        load(OPERATIONS + lines)
    message = str(caught.value)
    assert all(text in message for text in texts)
    assert message.count("plan.yaml:") == len(texts)


def test_a_near_miss_in_the_environment_is_named() -> None:
    with pytest.raises(PlanError, match=r"DATABASE_URL is not set \(there is DATABASE_URI\)"):
        load(EXAMPLE, {"DATABASE_URI": "x", "REDIS_URL": "y"})


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(PlanError) as caught:
        load(EXAMPLE.replace("deployment:", "deploymnt:").replace("200ms", "soon"))
    assert str(caught.value).count("plan.yaml:") == 3


@pytest.mark.parametrize("text", ["", "a: [", "- just\n- a list", "\t", "plain"])
def test_a_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match=r"plan\.yaml"):
        load(text)


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [("users", "public", "users"), ("App.Users", "app", "users"), ('"Odd ""x"."T.1"', 'Odd "x', "T.1")],
)
def test_table_names_fold_as_postgresql_folds_them(text: str, schema: str, name: str) -> None:
    if text.startswith('"Odd'):
        text = '"Odd ""x"."T.1"'
    assert TableName.parse(text) == TableName(schema_=schema, name=name)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("1h30m", 5400.0), (2, 2.0), ("0s", 0.0)])
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 parsecs", "-1s", -1, True, "1s2"])
def test_bad_durations(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.6, "59s"),
        (59.97, "1m00s"),
        (3599.7, "59m59s"),
        (90_000, "1d01h"),
    ],
)
def test_human_durations_never_show_sixty(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_the_schema_in_config_is_the_model() -> None:
    import json

    stored = json.loads((Path(__file__).parents[3] / "config" / "plan.schema.json").read_text())
    assert stored == build_plan_schema(), "run `make schema`"

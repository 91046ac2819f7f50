"""Quoting, splitting and guarding SQL text: nothing that a plan brings may leave the place that it is put in."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.errors import PlanError
from zdd_tui.model.sql import (
    SqlSyntaxError,
    called_functions,
    dollar_quoted,
    expression_sql,
    fold_name,
    name_sql,
    parse_expression,
    parse_sql,
    quote_identifier,
    quote_literal,
    readable_tokens,
    split_statements,
    tokens,
    unsafe_token,
    with_record,
)

HOSTILE = st.text(alphabet="abE'\"$();-/*[] \n\\&u1.,", max_size=40)


@pytest.mark.parametrize(
    "text",
    [
        "first_name || ' -- no comment; $1 $$ /* ' || last_name",
        "\"odd ; -- \"\"name\" || 'it''s'",
        "coalesce(a[1], (b)::text)",
        "a - -1",
        "regexp_replace(a, '\\s+', ' ')",
        "word = e",
        "'é' || ü",
    ],
)
def test_plain_expressions_pass(text: str) -> None:
    assert unsafe_token(text) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a) FROM secret --", "closes a bracket"),
        ("a -- b", "comment"),
        ("a /* b */", "comment"),
        ("a /* b", "comment"),
        ("a; DROP TABLE b", "semicolon"),
        ("E'\\'; DROP TABLE b; --'", "escape string"),
        ("u&'\\0061'", "escape string"),
        ('u&"\\0061"', "escape string"),
        ("$$a$$", "dollar"),
        ("$tag$a$tag$", "dollar"),
        ("$tag$a", "dollar"),
        ("$1", "parameter"),
        ("'a", "never closed"),
        ('"a', "never closed"),
        ("(a", "does not close"),
        ("(a]", "closes a bracket"),
        ("a\0", "NUL"),
        ("'\udc80'", "Unicode"),
        ("1a", "cannot read it: trailing junk"),
    ],
)
def test_what_could_escape_is_refused(text: str, what: str) -> None:
    reason = unsafe_token(text)
    assert reason is not None
    assert what in reason


def test_statements_are_split_at_semicolons_only() -> None:
    text = "ALTER TABLE a ADD b text DEFAULT ';é'; \n CREATE TYPE c AS ENUM ('x;y') ;;"
    assert split_statements(text) == ("ALTER TABLE a ADD b text DEFAULT ';é'", "CREATE TYPE c AS ENUM ('x;y')")
    assert unsafe_token(text, statements=True) is None
    assert unsafe_token("f(a; b)", statements=True) == "it holds a semicolon"
    with pytest.raises(SqlSyntaxError, match="unterminated"):
        split_statements("SELECT 'a")


def test_called_functions() -> None:
    expression = "Lower(a) || coalesce(b, 'no(t)') || \"Odd\"(d, 1) || (e) || s.f() || a::varchar(9) || lower(b)"
    assert called_functions(parse_expression(expression)) == (("", "lower", 1), ("", "Odd", 2), ("s", "f", 0))


@pytest.mark.parametrize(
    "text", ["", "a, b", "a b", "a AS b", "a; SELECT 1", "a) FROM b WHERE (c", "*", "DROP TABLE a", "a) FROM b --"]
)
def test_only_one_expression_is_an_expression(text: str) -> None:
    with pytest.raises(SqlSyntaxError):
        parse_expression(text)


def test_a_chain_that_is_too_long_is_an_error_with_a_fix() -> None:
    with pytest.raises(SqlSyntaxError, match="parentheses"):
        parse_expression(" || ".join("a" * 60))
    half = " || ".join("a" * 30)
    parse_expression(f"({half}) || ({half})")


def test_names_are_quoted_only_where_it_is_needed() -> None:
    assert name_sql("public", "users") == "public.users"
    assert name_sql("Odd") == '"Odd"'
    assert name_sql("select") == '"select"'


def test_quoting() -> None:
    assert quote_literal("it's") == "'it''s'"
    assert quote_literal("a\\b") == " E'a\\\\b'"
    for name in ("", "a\0", "é" * 32):
        with pytest.raises(PlanError):
            quote_identifier(name)


@given(HOSTILE)
def test_whatever_passes_stays_inside_its_parentheses(text: str) -> None:
    """Wrapped in brackets, text without an unsafe token leaves exactly our own last bracket to close."""
    if unsafe_token(text) is None:
        brackets = [token.text for token in tokens(f"({text}\n)") if token.kind in ("open", "close")]
        depth = 0
        for position, bracket in enumerate(brackets):
            depth += 1 if bracket in "([" else -1
            assert depth > 0 or position == len(brackets) - 1


@given(HOSTILE)
def test_an_expression_stays_one_value_of_the_row(text: str) -> None:
    if unsafe_token(text) is not None:
        return
    try:
        expression = parse_expression(text)
    except SqlSyntaxError:
        return
    (statement,) = parse_sql(f"SELECT 'before', ({text}), 'after' FROM t").stmts
    before, value, after = (target.res_target.val for target in statement.stmt.select_stmt.target_list)
    assert before.a_const.sval.sval == "before"
    assert after.a_const.sval.sval == "after"
    assert expression_sql(value) == expression_sql(expression)


@given(st.text())
def test_a_body_never_ends_its_dollar_quotes(body: str) -> None:
    quoted = dollar_quoted(body + "$zdd$ $zdd1$")
    tag = quoted[: quoted.index("$", 1) + 1]
    assert quoted.count(tag) == 2


@given(st.text(max_size=40))
def test_text_that_is_cut_off_is_read_as_far_as_it_goes(text: str) -> None:
    found = readable_tokens(text)
    assert [token.start for token in found] == sorted(token.start for token in found)
    assert all(token.kind != "unreadable" for token in found[:-1])


def test_the_rest_of_a_cut_off_text_is_one_token() -> None:
    first, *_, last = readable_tokens('SELECT "A""b" FROM t WHERE é = \'cut')
    assert fold_name(first) == "select"
    assert (last.kind, last.text) == ("unreadable", "'cut")


def test_the_parser_is_imported_only_when_it_is_used() -> None:
    modules = "zdd_tui.cli.parser, zdd_tui.cli.status, zdd_tui.model.ddl.lint, zdd_tui.model.advice.rules"
    code = f"import sys, {modules}; print([name for name in ('postgast', 'google.protobuf') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_an_expression_reads_a_record_instead_of_a_table() -> None:
    text = with_record("users.a || \"Odd Name\" || lower(b) || 'a'", "new", {"a": "zdd_archive_1_a"})
    assert text == "((new.zdd_archive_1_a || new.\"Odd Name\") || lower(new.b)) || 'a'"

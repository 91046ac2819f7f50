"""Cutting and guarding SQL text: nothing that a plan brings may leave the place that it is put in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.ddl.tokens import called_functions, dollar_quoted, split_statements, tokens, unsafe_token


@pytest.mark.parametrize(
    "text",
    [
        "first_name || ' -- no comment; $1 $$ /* ' || last_name",
        "\"odd ; -- \"\"name\" || 'it''s'",
        "coalesce(a[1], (b)::text)",
        "a - -1",
        "regexp_replace(a, '\\s+', ' ')",
        "word = e",
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
        ("a; DROP TABLE b", "semicolon"),
        ("E'\\'; DROP TABLE b; --'", "escape string"),
        ("u&'\\0061'", "escape string"),
        ("$$a$$", "dollar"),
        ("$tag$a$tag$", "dollar"),
        ("$1", "parameter"),
        ("'a", "never closed"),
        ('"a', "never closed"),
        ("(a", "does not close"),
        ("(a]", "closes a bracket"),
        ("a\0", "NUL"),
    ],
)
def test_what_could_escape_is_refused(text: str, what: str) -> None:
    found = unsafe_token(text)
    assert found is not None
    assert what in found


def test_statements_are_cut_at_semicolons_only() -> None:
    text = "ALTER TABLE a ADD b text DEFAULT ';'; \n CREATE TYPE c AS ENUM ('x;y') ;;"
    assert split_statements(text) == ("ALTER TABLE a ADD b text DEFAULT ';'", "CREATE TYPE c AS ENUM ('x;y')")
    assert unsafe_token(text, statements=True) is None
    assert unsafe_token("f(a; b)", statements=True) == "it holds a semicolon"


def test_called_functions() -> None:
    assert called_functions("Lower(a) || b (c) || 'no(t)' || \"Odd\"(d) || (e) || a + (f)") == ("lower", "b", "Odd")


@given(st.text(alphabet="abE'\"$();-/*[] \n\\&u1", max_size=40))
def test_whatever_passes_stays_inside_its_parentheses(text: str) -> None:
    """Wrapped in brackets, text without trouble leaves exactly our own last bracket to close."""
    if unsafe_token(text) is None:
        closed = [lexeme for kind, lexeme, _ in tokens(f"({text}\n)") if kind in ("open", "close")]
        depth = 0
        for position, lexeme in enumerate(closed):
            depth += 1 if lexeme in "([" else -1
            assert depth > 0 or position == len(closed) - 1


@given(st.text())
def test_a_body_never_ends_its_dollar_quotes(body: str) -> None:
    quoted = dollar_quoted(body + "$zdd$ $zdd1$")
    tag = quoted[: quoted.index("$", 1) + 1]
    assert quoted.count(tag) == 2

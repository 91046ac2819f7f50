"""Generated passwords in every form of an address: none of them is shown."""

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zdd_tui.backends.postgres.connection import describe_dsn, translate_error
from zdd_tui.backends.redis_flags import describe_redis_url
from zdd_tui.model import masking
from zdd_tui.model.masking import hide_values, mask_error, mask_secrets, mask_text

MARK = "S3cr3t"
"""In the middle of each password: it must not be in what is shown."""

_PART = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'"), max_size=8)
PASSWORDS = st.tuples(_PART, _PART).map(lambda parts: f"{parts[0]}{MARK}{parts[1]}")

FORMS = [
    "redis://:{}@host:6379", "redis://:{}@host:6379/0", "redis://user:{}@host", "rediss://user:{}@host:6380/2?db=1",
    "redis://default:{}@[::1]:6379/0", "unix://:{}@/run/redis.sock", "postgresql://app:{}@db/shop",
    "postgres://app:{}@db:5432/shop?sslmode=require", "postgresql://app:{}@a:1,b:2/shop", "postgresql://:{}@/shop",
    "amqp://web:{}@queue/x", "POSTGRESQL://app:{}@db/shop",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@given(password=PASSWORDS)
def test_a_password_as_it_is_and_escaped(form: str, password: str) -> None:
    for written in (password, quote(password, safe="")):
        url = form.format(written)
        for text in (url, f"cannot connect to {url} now", f'{{"url": "{url}"}}', f"url: {url}\nnext: line"):
            for mask in (mask_secrets, mask_text):
                assert MARK not in mask(text), text
        for describe in (describe_dsn, describe_redis_url):
            assert MARK not in describe(url), url
        for error in (OSError(f"bad: {url}"), ValueError(url), OSError(f"role app with {written} refused")):
            assert MARK not in str(translate_error(error, url)) or written not in url
        assert MARK not in mask_error(f"driver: {url}", url)


@pytest.mark.parametrize("form", ["https://ana:{}@host/x", "http://ana:{}@host:9090", "https://{}@git.example.com/x"])
@given(password=PASSWORDS)
def test_the_addresses_of_http(form: str, password: str) -> None:
    assume(not any(char in password for char in "/?#") or form.startswith("https://{"))
    assume(form.startswith("https://a") or form.startswith("http://a") or not any(c in password for c in ":/?#@"))
    assert MARK not in mask_text(f"GET {form.format(password)} failed")


@given(password=PASSWORDS)
def test_a_password_in_the_query(password: str) -> None:
    written = quote(password, safe="")
    for form in (
        "postgresql://db/shop?user=a&password={}",
        "redis://h/0?password={}",
        "https://h/x?access_token={}&a=b",
    ):
        assert MARK not in mask_text(form.format(written))
        assert MARK not in describe_dsn(form.format(written))
        assert MARK not in describe_redis_url(form.format(written))


def test_d_the_address_of_the_issue() -> None:
    url = "redis://:/S3cret@host:6379"
    assert describe_redis_url(url) == "an unreadable address"
    assert mask_text(f"x {url} y") == "x redis://:***@host:6379 y"


def test_the_hints_stay() -> None:
    for hint in ("write postgresql://user:password@host:port/database", "as redis://[user:password@]host:6379/0"):
        assert mask_text(hint) == hint


def test_placeholders_stay() -> None:
    for text in ("postgresql://app:${PASSWORD}@db/shop", "redis://:${A}${B}@h", "${DATABASE_URL}"):
        assert mask_secrets(text) == text
    assert mask_secrets("redis://:${A}S3cr3t@h") == "redis://:***@h"


def test_d_a_variable_in_sql_is_shown_as_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_hidden_values", {})
    hide_values({"SALT": MARK, "SHORT": "a"})
    assert mask_secrets(f"syntax error at or near {MARK}") == "syntax error at or near ${SALT}"
    assert mask_secrets("a cat") == "a cat"
    hide_values({"PEPPER": "(SELECT p3pperWord || first_name)"}, shown="first_name text")
    for quoted in ('column "p3pperword" does not exist', "near P3PPERWORD", "(SELECT p3pperWord || first_name)"):
        assert "${PEPPER}" in mask_secrets(quoted)
        assert "p3pper" not in mask_secrets(quoted).lower()
    assert mask_secrets("SELECT first_name") == "SELECT first_name"

"""Sequences that send text to the terminal contain no other control characters."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.dashboard.terminal.osc import (
    CLIPBOARD_LIMIT,
    clipboard_sequence,
    notification_sequence,
    truncate_for_clipboard,
)

NESTED = {"TMUX": "/tmp/tmux,1,0", "STY": "1.pts", "TERM": "screen"}
"""One runs inside the other; which one is unknown."""

ANYWHERE: tuple[dict[str, str], ...] = (
    {},
    {"TMUX": "/tmp/tmux,1,0"},
    {"STY": "1.pts"},
    {"TERM": "screen-256color"},
    NESTED,
)


def unwrap_sequence(sequence: str) -> str:
    """What the outer terminal receives."""
    if sequence.startswith("\x1bPtmux;"):
        return sequence.removeprefix("\x1bPtmux;").partition("\x1b\\")[0].replace("\x1b\x1b", "\x1b")
    return "".join(re.findall(r"\x1bP(.*?)\x1b\\", sequence, re.DOTALL)) or sequence


@pytest.mark.parametrize("environ", ANYWHERE)
def test_the_clipboard_gets_the_text(environ: dict[str, str]) -> None:
    text = "zoë\n" * 500
    message = unwrap_sequence(clipboard_sequence(text, environ))
    assert message.startswith("\x1b]52;c;")
    assert message.endswith("\x07")
    assert base64.b64decode(message[7:-1]).decode() == text


def test_tmux_gets_both_forms() -> None:
    assert clipboard_sequence("x", {"TMUX": "1"}).endswith(clipboard_sequence("x", {}))


@pytest.mark.parametrize(
    "environ",
    [{"TERM": "screen"}, {"TERM": "screen-256color"}, {"TERM": "screen.xterm-256color"}, NESTED],
    ids=["screen", "256", "xterm", "nested"],
)
def test_where_it_may_be_screen_or_tmux_both_accept_the_sequence(
    environ: dict[str, str],
) -> None:
    """GNU screen prints the rest of a string that is too long; tmux drops what is not wrapped for it."""
    assert clipboard_sequence("x", environ) == clipboard_sequence("x", {"STY": "1.pts"}) + clipboard_sequence("x", {})
    long = clipboard_sequence("zdd " * 200, environ)
    assert re.sub(r"\x1bP.{1,256}?\x1b\\", "", long, flags=re.DOTALL) == ""
    assert clipboard_sequence("x", {"TERM": "xterm-256color"}) == clipboard_sequence("x", {})


@given(st.text(max_size=300))
def test_no_text_breaks_out_of_a_notification(text: str) -> None:
    message = notification_sequence(text + "\x1b]52;c;aGFjaw==\x07\x9c", {})
    body = message.removeprefix("\x07\x1b]9;").removesuffix("\x07")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", body)


@pytest.mark.parametrize("environ", ANYWHERE)
def test_a_notification_arrives_once(environ: dict[str, str]) -> None:
    assert (
        unwrap_sequence(notification_sequence("pod x is overdue", environ).removeprefix("\x07"))
        == "\x1b]9;pod x is overdue\x07"
    )


@given(st.text(alphabet="aë東", max_size=20))
def test_a_long_text_is_truncated_between_characters(unit: str) -> None:
    text = (unit + "x") * CLIPBOARD_LIMIT
    kept = truncate_for_clipboard(text)
    assert text.startswith(kept)
    assert CLIPBOARD_LIMIT - 4 < len(kept.encode()) <= CLIPBOARD_LIMIT

"""What the terminal can show: decided from the environment alone."""

import argparse

import pytest

from zdd_tui.cli.options import add_display_options, add_record_option, forwarded_options, read_display_options
from zdd_tui.dashboard.terminal.display_options import DisplayOptions, check_terminal, is_utf8_locale
from zdd_tui.model.errors import ZddError


@pytest.mark.parametrize(
    ("environ", "unicode"),
    [
        ({}, True),
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "de_DE.UTF-8@euro"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "de_DE@euro"}, False),
        ({"LANG": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # set by Python itself
        ({"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "POSIX"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": ""}, True),
    ],
)
def test_ascii_by_locale(environ: dict[str, str], unicode: bool) -> None:
    assert is_utf8_locale(environ) is unicode


@pytest.mark.parametrize("term", ["", "dumb", "unknown"])
def test_a_terminal_without_a_cursor_is_refused(term: str) -> None:
    with pytest.raises(ZddError) as caught:
        check_terminal({"TERM": term})
    assert "TERM" in caught.value.title
    assert "zdd status" in caught.value.hint


def test_options_are_parsed_and_forwarded() -> None:
    parser = argparse.ArgumentParser()
    add_display_options(parser)
    environ = {"TERM": "xterm", "LANG": "en_US.UTF-8"}
    assert read_display_options(parser.parse_args([]), environ) == DisplayOptions()
    assert read_display_options(parser.parse_args([]), environ | {"LANG": "C"}) == DisplayOptions(ascii=True)
    given = ["--ascii", "--low-bandwidth", "--no-bell"]
    assert read_display_options(parser.parse_args(given), environ) == DisplayOptions(
        ascii=True, low_bandwidth=True, bell=False
    )
    add_record_option(parser)
    assert forwarded_options(parser.parse_args(given)) == given
    assert forwarded_options(parser.parse_args(["--record", "x.gz"])) == ["--record", "x.gz"]

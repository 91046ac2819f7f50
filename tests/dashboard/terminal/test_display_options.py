"""What the terminal can show: decided from the environment alone."""

import argparse
from pathlib import Path

import pytest
from textual.theme import BUILTIN_THEMES

from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, metric_history
from tests.support.strategy_states import guard_situations
from zdd_tui.cli.options import add_display_options, add_record_option, forwarded_options, read_display_options
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.terminal.display_options import DEFAULT_THEME, DisplayOptions, check_terminal, is_utf8_locale
from zdd_tui.model.errors import ZddError
from zdd_tui.model.fleet.config import parse_fleet_config
from zdd_tui.model.queries import MetricHistoryQuery


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


def test_an_unknown_theme_is_refused_with_the_names() -> None:
    parser = argparse.ArgumentParser()
    add_display_options(parser)
    with pytest.raises(ZddError, match="no theme 'blue'") as caught:
        read_display_options(parser.parse_args(["--theme", "blue"]), {"TERM": "xterm-256color"})
    assert all(name in caught.value.hint for name in BUILTIN_THEMES)
    assert read_display_options(parser.parse_args(["--theme", "nord"]), {"TERM": "xterm"}).theme == "nord"
    add_record_option(parser)
    assert list(forwarded_options(parser.parse_args(["--theme", "nord"]))) == ["--theme", "nord"]


def test_the_theme_of_the_configuration_is_used_unless_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = argparse.ArgumentParser()
    add_display_options(parser)
    add_record_option(parser)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config, environ = tmp_path / "zdd" / "config.toml", {"TERM": "xterm"}
    config.parent.mkdir()
    config.write_text('theme = "nord"\n[[database]]\nname = "a"\ndsn = "${A}"\n')
    assert read_display_options(parser.parse_args([]), environ).theme == "nord"
    assert list(forwarded_options(parser.parse_args([]))) == ["--theme", "nord"]
    assert read_display_options(parser.parse_args(["--theme", "dracula"]), environ).theme == "dracula"
    assert read_display_options(parser.parse_args(["--theme", DEFAULT_THEME]), environ).theme == DEFAULT_THEME
    config.write_text('theme = "blue"')
    with pytest.raises(ZddError, match=r"theme in .*config.toml: there is no theme 'blue'"):
        read_display_options(parser.parse_args([]), environ)
    config.write_text('theme = "nord')  # the list of releases tells what is wrong; a dashboard opens all the same
    assert read_display_options(parser.parse_args([]), environ).theme == DEFAULT_THEME
    assert parse_fleet_config('theme = "nord"', source="c", environment={}).databases == ()
    with pytest.raises(ZddError, match="theme: expected a valid string"):
        parse_fleet_config("theme = 1", source="c", environment={})


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light", "textual-light", "nord"])
def test_a_warning_has_not_the_colour_of_a_failure(theme: str) -> None:
    app = ZddApp(FixedSource(guard_situations()["guard-backfill"]), display_options=DisplayOptions(theme=theme))
    warning, error = app.current_theme.warning, app.current_theme.error
    assert warning
    assert error
    assert warning.replace("bright_", "") != error.replace("bright_", "")


@pytest.mark.parametrize("theme", ["nord", "textual-light", "ansi-light"])
@pytest.mark.parametrize("no_color", ["", "1"])
async def test_a_theme_changes_colours_only(theme: str, no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    source = FixedSource(guard_situations()["guard-backfill"], answers={MetricHistoryQuery: metric_history()})
    app = ZddApp(source, clock=FixedClock(), display_options=DisplayOptions(theme=theme))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        expected = (Path(__file__).parents[1] / "snapshots" / "guard-backfill-120x36.txt").read_text(encoding="utf-8")
        assert screen_text(app) == expected
        if no_color:
            styles = [segment.style for strip in app.screen._compositor.render_strips() for segment in strip]
            colours = {colour for style in styles if style for colour in (style.color, style.bgcolor) if colour}
            assert not [colour for colour in colours if not colour.is_default]

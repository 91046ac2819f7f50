"""A keymap file: what is taken, what is told, and that no wrong file takes the dashboard away."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.cli.keys import KeymapError, default_keymap_path, format_bindings, load_dashboard_keys, show_keys
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.keymap import UNBOUND_KEY, ResolvedKeymap, build_dashboard_keys, find_conflicts, resolve_keymap
from zdd_tui.dashboard.screens.bindings import can_be_active_together, key_problem, known_bindings, textual_key_name
from zdd_tui.model.actions import ACTIONS

KNOWN = known_bindings(ZddApp)
BY_ID = {each.id: each for each in KNOWN}
EXAMPLE = Path(__file__).parents[2] / "config" / "keymap.example.yaml"


def chosen(document: object) -> ResolvedKeymap:
    return resolve_keymap(
        document,
        KNOWN,
        source="keys.yaml",
        lines={str(name): at for at, name in enumerate(document, 1)} if isinstance(document, dict) else {},
        key_problem=key_problem,
        conflicts=can_be_active_together,
        expand_key_name=textual_key_name,
    )


def test_every_action_pane_and_dialog_is_known() -> None:
    assert {each.binding_id for each in ACTIONS} <= BY_ID.keys()
    assert {"pane.up", "table.sort", "table.filter", "confirm.yes", "palette.down", "app.leave"} <= BY_ID.keys()
    assert all(each.help for each in KNOWN)
    assert BY_ID["zdd.rollback"].scope == "everywhere"
    assert BY_ID["zdd.advance"].scope == "main screen"


def test_no_default_key_is_another_program_s_or_sent_as_another_key() -> None:
    taken = {f"ctrl+{letter}" for letter in "abshjmi"}
    assert not [each.id for each in KNOWN if taken & set(each.keys)]
    assert not [key for each in KNOWN for key in each.keys if key_problem(key)]


def test_no_two_defaults_hide_each_other_on_the_main_screen_or_everywhere() -> None:
    meant = {("zdd.help", "help.close"), ("zdd.copy", "confirm.yes")}  # a dialog's own key comes first in it
    main = frozenset(each.binding_id for each in ACTIONS)
    found = {(first.id, second.id) for _, first, second in find_conflicts(KNOWN, main, can_be_active_together)}
    elsewhere = {pair for pair in found if "main screen" not in (BY_ID[pair[0]].scope, BY_ID[pair[1]].scope)}
    assert elsewhere <= meant
    assert found <= elsewhere


def test_keys_are_taken_by_the_action_s_or_the_binding_s_name() -> None:
    taken = chosen({"advance": "f2", "zdd.rollback": ["R", "f12"], "table.sort": "o", "palette": ";"})
    assert not taken.problems
    assert taken.keys["zdd.advance"] == ("f2",)
    assert taken.keys["zdd.rollback"] == ("R", "f12")
    assert taken.keys["table.sort"] == ("o",)
    assert taken.keys["zdd.palette"] == ("semicolon",)
    assert taken.keys["zdd.pause"] == ("p",)
    choice = build_dashboard_keys(taken)
    assert choice.key_names["advance"] == "f2"
    assert choice.key_names["palette"] == ";"
    assert choice.key_names["pause"] == "p"
    assert choice.keymap.keys() == BY_ID.keys()


def test_keys_of_panes_are_taken_by_either_name_and_hold_on_the_screen_and_in_the_pane() -> None:
    taken = chosen({"sort": "o", "pane.maximise": "f", "to-guard": "g", "next-pane": "tab", "to-flags": []})
    assert not taken.problems
    assert (taken.keys["table.sort"], taken.keys["pane.maximise"]) == (("o",), ("f",))
    names = build_dashboard_keys(taken).key_names
    assert (names["sort"], names["maximise"], names["to-guard"], names["to-flags"]) == ("o", "f", "g", "-")
    assert names["previous-pane"] == "S-Tab"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"advanze": "x"}, "keys.yaml:1: advanze: there is no such action or binding; did you mean advance?"),
        ({"xyzzy": "x"}, "`zdd keys` lists them all"),
        ({"advance": "pgup"}, "'pgup' is no key; did you mean pageup?"),
        ({"advance": "hyper+x"}, "a key with modifiers is written as ctrl+x or shift+f3"),
        ({"advance": "ctrl+i"}, "a terminal sends ctrl+i as tab"),
        ({"advance": True}, "True is no key; quote it"),
        ({"advance": {"key": "x"}}, "is no key"),
        ({"rollback": []}, "it needs a key: it is the way out"),
        ({"zdd.advance": "x", "advance": "f3"}, "advance is there twice; the first holds"),
        (["advance"], "a keymap is a list of `id: key`"),
    ],
)
def test_what_is_wrong_is_told_and_the_default_holds(document: object, told: str) -> None:
    taken = chosen(document)
    assert [problem for problem in taken.problems if told in problem]
    assert taken.keys["zdd.rollback"] == ("R", "ctrl+r")
    assert taken.keys["zdd.advance"] in (("a",), ("x",))


@pytest.mark.parametrize(
    ("document", "loser"),
    [
        ({"doctor": "a"}, "zdd.doctor"),  # the main screen's own
        ({"table.sort": "p"}, "table.sort"),  # a pane on the main screen would hide pause
        ({"details.close": "R"}, "details.close"),  # rollback works there too
        ({"advance": "f2", "doctor": "f2"}, "zdd.doctor"),
        ({"resume": "a"}, "zdd.resume"),
        ({"quit": "colon"}, "zdd.quit"),  # two names of one key
        ({"quit": "/"}, "zdd.quit"),
        ({"to-events": "1"}, "zdd.to-events"),
        ({"doctor": "4"}, "zdd.doctor"),
        ({"maximise": "S"}, "pane.maximise"),
        ({"next-pane": "escape"}, "zdd.next-pane"),  # a pane on the main screen would hide it
    ],
)
def test_a_clash_is_told_and_gives_the_default_back(document: dict[str, str], loser: str) -> None:
    taken = chosen(document)
    assert len(taken.problems) == 1
    assert f"{loser.removeprefix('zdd.')} keeps" in taken.problems[0]
    assert taken.keys[loser] == BY_ID[loser].keys
    assert "keymap:" in build_dashboard_keys(taken).warnings[0]


def test_what_cannot_be_had_together_may_share_a_key() -> None:
    assert not chosen({"doctor.refresh": "a", "pause": "x", "resume": "x", "help.close": "d"}).problems


def test_an_exchange_is_no_clash() -> None:
    taken = chosen({"details": "d", "doctor": "e"})
    assert not taken.problems
    assert taken.changed == {"zdd.details", "zdd.doctor"}


def test_keys_can_be_taken_away() -> None:
    taken = chosen({"quit": []})
    assert taken.keys["zdd.quit"] == ()
    assert build_dashboard_keys(taken).keymap["zdd.quit"] == UNBOUND_KEY
    assert build_dashboard_keys(taken).key_names["quit"] == "-"


@given(
    st.dictionaries(
        st.sampled_from([*BY_ID, "advance", "nonsense"]),
        st.one_of(
            st.sampled_from([*"apRtx?:", "f5", "ctrl+i", "", "escape"]), st.lists(st.text(max_size=3), max_size=2)
        ),
        max_size=5,
    )
)
def test_whatever_stands_in_a_file_no_key_is_lost_and_nothing_clashes(document: dict[str, object]) -> None:
    taken = chosen(document)
    assert taken.keys.keys() == BY_ID.keys()
    assert taken.keys["zdd.rollback"]
    assert chosen({name: list(taken.keys[name]) for name in taken.changed}).problems == ()


def test_the_example_can_be_taken(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    assert show_keys(str(EXAMPLE), None, {}, sys.stdout) == 0
    assert "6 bindings changed, no clash" in capsys.readouterr().out


def test_a_file_is_found_where_xdg_says(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert default_keymap_path(environ) == tmp_path / ".config" / "zdd" / "keymap.yaml"
    assert (
        default_keymap_path(environ | {"XDG_CONFIG_HOME": str(tmp_path / "x")})
        == tmp_path / "x" / "zdd" / "keymap.yaml"
    )
    assert load_dashboard_keys(None, environ).keymap == {}
    file = default_keymap_path(environ)
    file.parent.mkdir(parents=True)
    file.write_text("advance: f2\n")
    assert load_dashboard_keys(None, environ).key_names["advance"] == "f2"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"advance: [", "not valid YAML"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"advance: \x07", "not valid YAML"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_and_keeps_the_defaults(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    import sys

    file = tmp_path / "keys.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeymapError, match=told):
        show_keys(str(file), None, {}, sys.stdout)
    choice = load_dashboard_keys(str(file), {})
    assert told in choice.warnings[0]
    assert choice.keymap == {}


def test_the_list_names_every_binding_and_where_its_keys_come_from() -> None:
    lines = format_bindings(KNOWN, chosen({"advance": "f2"}), "keys.yaml")
    assert len(lines) == len(KNOWN) + 1
    advance = next(line.split() for line in lines if line.startswith("advance "))
    assert advance[:5] == ["advance", "f2", "main", "screen", "keys.yaml"]
    assert next(line.split() for line in lines if line.startswith("slower "))[1] == "["

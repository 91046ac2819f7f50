"""A keymap file: valid entries are used, invalid ones are reported, and the dashboard always starts."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_tui.cli.keys import KeymapError, default_keymap_path, format_bindings, load_dashboard_keys, show_keys
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.keymap import (
    UNBOUND_KEY,
    ResolvedKeymap,
    build_dashboard_keys,
    find_conflicts,
    key_problem,
    known_bindings,
    resolve_keymap,
)
from zdd_tui.model.actions import ACTIONS

KNOWN = known_bindings(ZddApp)
BY_ID = {binding.id: binding for binding in KNOWN}
EXAMPLE = Path(__file__).parents[2] / "config" / "keymap.example.yaml"


def resolve(document: object) -> ResolvedKeymap:
    return resolve_keymap(
        document,
        KNOWN,
        source="keys.yaml",
        lines={str(name): at for at, name in enumerate(document, 1)} if isinstance(document, dict) else {},
    )


def test_every_action_pane_and_dialog_is_known() -> None:
    assert {action.binding_id for action in ACTIONS} <= BY_ID.keys()
    assert {"pane.up", "table.sort", "table.filter", "confirm.yes", "palette.down", "app.leave"} <= BY_ID.keys()
    assert all(binding.help for binding in KNOWN)
    assert BY_ID["zdd.rollback"].scope == "everywhere"
    assert BY_ID["zdd.advance"].scope == "main screen"


def test_no_default_key_is_reserved_or_sent_as_another_key() -> None:
    reserved = {f"ctrl+{letter}" for letter in "abshjmi"}
    assert not [binding.id for binding in KNOWN if reserved & set(binding.keys)]
    assert not [key for binding in KNOWN for key in binding.keys if key_problem(key)]


def test_no_defaults_conflict_on_the_main_screen() -> None:
    intended = {("zdd.help", "help.close")}  # a dialog's own key comes first in it
    main = frozenset(action.binding_id for action in ACTIONS)
    found = {(first.id, second.id) for _, first, second in find_conflicts(KNOWN, main)}
    elsewhere = {pair for pair in found if "main screen" not in (BY_ID[pair[0]].scope, BY_ID[pair[1]].scope)}
    assert elsewhere <= intended
    assert found <= elsewhere


def test_entries_by_action_or_by_binding() -> None:
    resolved = resolve({"advance": "f2", "zdd.rollback": ["R", "f12"], "table.sort": "o", "palette": ";"})
    assert not resolved.problems
    assert resolved.keys["zdd.advance"] == ("f2",)
    assert resolved.keys["zdd.rollback"] == ("R", "f12")
    assert resolved.keys["table.sort"] == ("o",)
    assert resolved.keys["zdd.palette"] == ("semicolon",)
    assert resolved.keys["zdd.pause"] == ("p",)
    built = build_dashboard_keys(resolved)
    assert built.key_names["advance"] == "f2"
    assert built.key_names["palette"] == ";"
    assert built.key_names["pause"] == "p"
    assert built.keymap.keys() == BY_ID.keys()


def test_keys_of_panes_by_action_or_by_binding() -> None:
    resolved = resolve({"sort": "o", "pane.maximise": "x", "to-guard": "g", "next-pane": "tab", "to-flags": []})
    assert not resolved.problems
    assert (resolved.keys["table.sort"], resolved.keys["pane.maximise"]) == (("o",), ("x",))
    names = build_dashboard_keys(resolved).key_names
    assert (names["sort"], names["maximise"], names["to-guard"], names["to-flags"]) == ("o", "x", "g", "-")
    assert names["previous-pane"] == "S-Tab"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"advanze": "x"}, "keys.yaml:1: advanze: unknown action or binding; did you mean advance?"),
        ({"xyzzy": "x"}, "`zdd keys` lists them all"),
        ({"advance": "pgup"}, "'pgup' is not a key; did you mean pageup?"),
        ({"advance": "hyper+x"}, "write modifiers as ctrl+x or shift+f3"),
        ({"advance": "ctrl+i"}, "a terminal sends ctrl+i as tab"),
        ({"advance": True}, "True is not a key; quote it"),
        ({"advance": {"key": "x"}}, "is not a key"),
        ({"rollback": []}, "it must have a key"),
        ({"zdd.advance": "x", "advance": "f3"}, "duplicate entry for advance; the first one is used"),
        (["advance"], "not a keymap: write one `id: key` a line"),
    ],
)
def test_an_invalid_entry_is_reported_and_the_default_is_used(document: object, text: str) -> None:
    resolved = resolve(document)
    assert [problem for problem in resolved.problems if text in problem]
    assert resolved.keys["zdd.rollback"] == ("R", "ctrl+r")
    assert resolved.keys["zdd.advance"] in (("a",), ("x",))


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
def test_a_conflict_is_reported_and_restores_the_default(document: dict[str, str], loser: str) -> None:
    resolved = resolve(document)
    assert len(resolved.problems) == 1
    assert f"{loser.removeprefix('zdd.')} keeps" in resolved.problems[0]
    assert resolved.keys[loser] == BY_ID[loser].keys
    assert "keymap:" in build_dashboard_keys(resolved).warnings[0]


def test_bindings_that_are_never_active_together_may_share_a_key() -> None:
    assert not resolve({"doctor.refresh": "a", "pause": "x", "resume": "x", "help.close": "d"}).problems


def test_swapped_keys_do_not_conflict() -> None:
    resolved = resolve({"details": "d", "doctor": "e"})
    assert not resolved.problems
    assert resolved.changed == {"zdd.details", "zdd.doctor"}


def test_keys_can_be_removed() -> None:
    resolved = resolve({"quit": []})
    assert resolved.keys["zdd.quit"] == ()
    assert build_dashboard_keys(resolved).keymap["zdd.quit"] == UNBOUND_KEY
    assert build_dashboard_keys(resolved).key_names["quit"] == "-"


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*BY_ID, "advance", "nonsense"]),
        st.one_of(
            st.sampled_from([*"apRtx?:", "f5", "ctrl+i", "", "escape"]), st.lists(st.text(max_size=3), max_size=2)
        ),
        max_size=5,
    )
)
def test_any_file_keeps_all_keys_and_has_no_conflicts(document: dict[str, object]) -> None:
    resolved = resolve(document)
    assert resolved.keys.keys() == BY_ID.keys()
    assert resolved.keys["zdd.rollback"]
    assert resolve({name: list(resolved.keys[name]) for name in resolved.changed}).problems == ()


def test_the_example_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    assert show_keys(str(EXAMPLE), None, sys.stdout) == 0
    assert "6 bindings changed, no clash" in capsys.readouterr().out


def test_the_default_path_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert default_keymap_path() == tmp_path / ".config" / "zdd" / "keymap.yaml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert default_keymap_path() == tmp_path / "x" / "zdd" / "keymap.yaml"
    assert load_dashboard_keys(None).keymap == {}
    file = default_keymap_path()
    file.parent.mkdir(parents=True)
    file.write_text("advance: f2\n")
    assert load_dashboard_keys(None).key_names["advance"] == "f2"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"advance: [", "not valid YAML"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"advance: \x07", "not valid YAML"),
        (None, "there is no file"),
    ],
)
def test_an_unreadable_file_is_an_error_and_keeps_the_defaults(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    import sys

    file = tmp_path / "keys.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeymapError, match=text):
        show_keys(str(file), None, sys.stdout)
    built = load_dashboard_keys(str(file))
    assert text in built.warnings[0]
    assert built.keymap == {}


def test_the_list_names_every_binding_and_the_source_of_its_keys() -> None:
    lines = format_bindings(KNOWN, resolve({"advance": "f2"}), "keys.yaml")
    assert len(lines) == len(KNOWN) + 1
    advance = next(line.split() for line in lines if line.startswith("advance "))
    assert advance[:5] == ["advance", "f2", "main", "screen", "keys.yaml"]
    assert next(line.split() for line in lines if line.startswith("slower "))[1] == "["

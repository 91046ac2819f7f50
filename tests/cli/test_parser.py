"""The help of every verb that is also an action comes from the registry; what exit codes mean."""

import argparse
from pathlib import Path

import pytest

from zdd_tui.cli.parser import build_parser, main
from zdd_tui.model.actions import ACTIONS, Action

VERBS = next(each for each in build_parser()._actions if isinstance(each, argparse._SubParsersAction))
BOTH = [each for each in ACTIONS if each.id in VERBS.choices]


def test_what_is_a_verb_by_the_registry_is_one() -> None:
    assert {each.id for each in BOTH} == {each.id for each in ACTIONS if each.has_cli_command or each.cli_help_suffix}
    assert {"advance", "pause", "resume", "rollback", "tune", "doctor"} <= {each.id for each in BOTH}


@pytest.mark.parametrize("action", BOTH, ids=lambda each: each.id)
def test_the_texts_are_the_registry_s(action: Action) -> None:
    listed = {each.dest: each.help for each in VERBS._choices_actions}
    assert listed[action.id] == VERBS.choices[action.id].description == action.cli_help
    assert action.cli_help.startswith(action.help)
    shown = " ".join(VERBS.choices[action.id].format_help().split())
    assert action.cli_help in shown.replace("- ", "-")


@pytest.mark.parametrize(
    ("sql", "options", "code", "text"),
    [
        ("ALTER TABLE t ADD COLUMN a int", (), 0, ""),
        ("BEGIN; COMMIT", (), 1, "the migration changes nothing"),
        ("VACUUM FULL t", (), 1, "under a lock that blocks reads and writes"),
        ("ALTER TABLE t RENAME a TO b; ALTER TABLE t ADD COLUMN a int", (), 1, "running code uses both"),
        ("ALTER TABLE", (), 2, "syntax error"),
        ("ALTER TABLE t ADD COLUMN a int", ("--image", "shop:2"), 2, "belong together"),
    ],
)
def test_the_exit_code_of_plan_says_whether_the_migration_or_the_input_is_refused(
    sql: str, options: tuple[str, ...], code: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    migration = tmp_path / "m.sql"
    migration.write_text(sql)
    assert main(["plan", str(migration), "--environment", "test", *options]) == code
    assert text in capsys.readouterr().err

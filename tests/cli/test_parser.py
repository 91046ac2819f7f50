"""The help of every verb that is also an action comes from the registry."""

import argparse

import pytest

from zdd_tui.cli.parser import build_parser
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

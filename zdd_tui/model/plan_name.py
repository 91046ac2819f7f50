"""The plan's file in the commands that a text names: texts are stored without it."""

import re

_PLAN_IN_COMMAND = re.compile(r"(\bzdd [^\n;,`]*?)\bPLAN\b")


def name_plan(text: str, plan_file: str) -> str:
    """A text with the plan's file in its commands, which then can be copied.

    Args:
        plan_file: quoted for a shell; empty where it is not known.
    """
    if not plan_file or "PLAN" not in text:
        return text
    return _PLAN_IN_COMMAND.sub(lambda found: f"{found[1]}{plan_file}", text)

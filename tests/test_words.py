"""Texts of the package use the terms of the field: no text on screen, in an error or in a report has a private word."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "zdd_tui"

REPLACED = {
    r"stands? still": "stalled",
    r"go(es)? on by itself": "continues automatically",
    r"nobody|somebody": "no agent, no session, another client, or the named actor",
    r"way back": "rollback",
    r"set[- ]aside|aside": "archive",
    r"look again": "check, retry",
    r"mends?": "Fix:, hint",
    r"twin": "second Deployment",
    r"overtaken": "cancelled",
    r"carr(y|ies) (it |the release )?out": "runs",
    r"told": "reported, distinguished",
    r"in force": "active, effective",
    r"heir|mood|stance": "successor, severity, state",
}
"""Patterns of words that are not written, each with what is written."""

ALLOWED = {
    "nobody": ("testbed/servers.py", "demo/image_trials.py"),  # the user of the operating system, and of a test address
}


def texts_of(tree: ast.Module) -> Iterator[ast.Constant]:
    """The string constants of a module that are not docstrings."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node


def replaced_words(source: str, module: str = "") -> list[str]:
    return [
        f"{module}:{node.lineno}: {word[0]!r}; write: {instead}"
        for node in texts_of(ast.parse(source))
        for pattern, instead in REPLACED.items()
        for word in re.finditer(rf"\b({pattern})\b", str(node.value), re.IGNORECASE)
        if module not in ALLOWED.get(word[0].lower(), ())
    ]


def test_texts_use_the_terms_of_the_field() -> None:
    files = {file.relative_to(PACKAGE).as_posix(): file for file in PACKAGE.rglob("*.py")}
    assert [each for module, file in sorted(files.items()) for each in replaced_words(file.read_text(), module)] == []
    assert {module for modules in ALLOWED.values() for module in modules} <= set(files), "an exception that none needs"


@pytest.mark.parametrize("text", ["The release stands still", "Set aside", "Nobody is running this", "mend: retry"])
def test_a_replaced_word_is_found_in_a_text_and_not_in_a_docstring(text: str) -> None:
    assert replaced_words(f'show("{text}")')
    assert replaced_words(f'show(f"{text} {{name}}")')
    assert not replaced_words(f'"""{text}"""')

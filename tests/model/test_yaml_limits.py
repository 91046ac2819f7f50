"""YAML that stands for more than it looks is refused at once, in plans, manifests and keymaps."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from zdd_tui.cli.keys import KeymapError, show_keys
from zdd_tui.model.advice.manifest import read_manifests
from zdd_tui.model.errors import PlanError, ZddError
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.yaml_limits import MAX_DEPTH, load_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {k: x}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)
TEXTS = {
    "aliases": (BOMB, "more than 50,000 values"),
    "merge keys": (MERGE_BOMB, "more than 50,000 values"),
    "many values": ("a: [" + "x, " * 200_000 + "]", "more than 50,000 values"),
    "nested lists": ("[" * 100_000, f"more than {MAX_DEPTH} levels"),
    "nested mappings": ("{a: " * 100_000, f"more than {MAX_DEPTH} levels"),
    "nested by indentation": ("\n".join(" " * n + "a:" for n in range(900)), f"more than {MAX_DEPTH} levels"),
    "refers to itself": ("a: &a [*a]", "refers to itself"),
    "a long number": ("a: " + "9" * 100_000, "too long"),
    "a long base 60 number": ("a: 1" + ":1" * 100_000, "too long"),
}


def read_plan(text: str) -> None:
    load_plan(text, source="plan.yaml", environment={})


def read_manifest(text: str) -> None:
    read_manifests([("m.yaml", text)])


@pytest.mark.parametrize("read", [read_plan, read_manifest])
@pytest.mark.parametrize("case", TEXTS)
def test_a_document_without_end_is_refused_at_once(case: str, read: Callable[[str], None]) -> None:
    text, expected = TEXTS[case]
    began = time.process_time()
    with pytest.raises(PlanError, match=expected) as caught:
        read(text)
    assert time.process_time() - began < 10  # without limits it does not end
    assert caught.value.hint
    assert len(str(caught.value)) < 500


def test_a_keymap_too(tmp_path: Path) -> None:
    file = tmp_path / "keymap.yaml"
    for text in (BOMB, "!!timestamp x", "a: !!bool x"):
        file.write_text(text)
        with pytest.raises(KeymapError):
            show_keys(str(file), None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tag", ["timestamp x", "bool x", 'int ""', "float x", "binary \u00e9", "omap [1]", "set [1]", "x y"]
)
def test_a_value_that_is_not_of_its_tag(tag: str) -> None:
    for read in (read_plan, read_manifest):
        with pytest.raises(ZddError):
            read(f"a: !!{tag}\n")


def test_an_ordinary_document_with_aliases_is_read() -> None:
    assert load_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}

"""Tests of screens wait no longer than the application works, and parse a style sheet once.

Textual's pilot guesses from the process's CPU when an application has nothing left to do: it sleeps 20 ms until one
such time used less than 1 ms, twice for each key. That is most of the time of a test of a screen, and on a busy machine
a process that gets no CPU looks idle. Here it is read from the event loop.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import textual.app
import textual.pilot
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

SOON = 0.05
"""Seconds within which a timer counts as work to do: somewhat longer than Textual's pilot waits."""
SETTLED = 3
"""How often the loop must be found idle, a moment apart: a thread or a file may still hand it work."""
LONGEST_FOR_TIMERS = 1.0
"""Seconds, as long as Textual's pilot waits: a timer that repeats is always due soon."""
LONGEST_WAIT = 10.0
"""Seconds. Textual's second is too short for a key and its effect on a machine that does much else."""


async def wait_for_idle(_min_sleep: float = 0.0, _max_sleep: float = 0.0) -> None:
    """Waits until no callback of the loop is ready, and no timer is due soon. The arguments are Textual's."""
    loop: Any = asyncio.get_running_loop()
    began, idle = loop.time(), 0
    end = began + LONGEST_WAIT
    while (now := loop.time()) < end and idle < SETTLED:
        await asyncio.sleep(0)
        due = min((timer.when() for timer in loop._scheduled if not timer.cancelled()), default=end)
        if loop._ready:
            idle = 0
        elif due <= now + SOON and now < began + LONGEST_FOR_TIMERS:
            idle = 0
            await asyncio.sleep(max(0.0, due - now))
        else:
            idle += 1
            await asyncio.sleep(0.001)


def share_rules(parse: Callable[..., list[RuleSet]]) -> Callable[..., list[RuleSet]]:
    """As each style sheet does by itself for its own rules."""
    parsed: dict[Any, list[RuleSet]] = {}

    def parse_once(sheet: Stylesheet, css: str, **options: Any) -> list[RuleSet]:
        key = (css, frozenset(sheet._variables.items()), frozenset(options.items()))
        if key not in parsed:
            parsed[key] = parse(sheet, css, **options)
        return parsed[key]

    return parse_once


@contextmanager
def quick_screens() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textual.pilot, "wait_for_idle", wait_for_idle)
        patch.setattr(textual.app, "wait_for_idle", wait_for_idle)
        patch.setattr(Stylesheet, "_parse_rules", share_rules(Stylesheet._parse_rules))
        yield

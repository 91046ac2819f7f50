"""Keys that are typed faster than the screen follows: each one waits until the effect of the one before is on screen.

Textual gives a key to the focused widget's queue; its action runs when the key has bubbled to the application. A second
key that arrives meanwhile would go to the screen that the first one is about to cover.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from textual import events
from textual.app import App
from textual.message_pump import MessagePump
from textual.screen import Screen

ROUNDS = 3
"""Walks from the focused widget to the application: the key, the message of its action, and what that one posts."""

LONGEST_WAIT = 5.0
"""Seconds after which the next key is delivered in any case. A widget that is removed handles its queue before, so this
is only for one that hangs."""


@runtime_checkable
class ConfirmsByKey(Protocol):
    """A screen on which a key changes something outside: it counts only when it was typed on the painted screen."""

    @property
    def is_ready(self) -> bool:
        """Whether the screen was painted."""
        ...

    def confirms(self, key: str) -> bool: ...


class TypedKeys:
    """Delivers keys one at a time.

    Args:
        deliver: gives a key to the focused widget.
    """

    def __init__(self, app: App[Any], deliver: Callable[[events.Key], Awaitable[None]]) -> None:
        self._app, self._deliver = app, deliver
        self._held: deque[tuple[events.Key, Screen[Any] | None]] = deque()
        self._painted: Screen[Any] | None = None
        self._number = 0
        self._is_busy = False

    @property
    def is_idle(self) -> bool:
        """Every key has been delivered, and its effect is on screen."""
        return not self._is_busy and not self._held

    async def add(self, event: events.Key) -> None:
        """Delivers a key now, or after those before it."""
        if self._is_busy:
            front = self._app.screen
            is_seen = self._painted is None or (isinstance(front, ConfirmsByKey) and front.is_ready)
            self._held.append((event, front if is_seen else self._painted))
        else:
            await self._start(event)

    async def _start(self, event: events.Key) -> None:
        front = self._painted = self._app.screen
        self._is_busy = True
        self._number += 1
        number = self._number
        target = self._app.focused or front
        path: list[MessagePump] = [*target.ancestors_with_self]
        await self._deliver(event)
        self._app.set_timer(LONGEST_WAIT, lambda: self._finish(number))
        self._walk(number, path * ROUNDS)

    def _walk(self, number: int, path: list[MessagePump]) -> None:
        """Calls itself in the queue of each widget on the path: behind the key, and behind what it has caused there."""
        while path:
            widget, *path = path
            if widget.call_later(self._walk, number, path):
                return
        front = self._app.screen
        if front is self._painted or not front.call_after_refresh(self._app.call_later, self._finish, number):
            self._app.call_later(self._finish, number)

    async def _finish(self, number: int) -> None:
        """The effect of a key is on screen: delivers the next one."""
        if number != self._number or not self._is_busy:
            return
        self._is_busy = False
        while self._held and not self._is_busy:
            event, seen = self._held.popleft()
            front = self._app.screen
            if seen is front or not (isinstance(front, ConfirmsByKey) and front.confirms(event.key)):
                await self._start(event)

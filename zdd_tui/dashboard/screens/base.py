"""Base of all screens: the keys that work everywhere.

A screen posts :class:`ActionRequested`; the application passes it to its
:class:`zdd_tui.dashboard.screens.actions.ActionController`. So rollback is one key and one confirmation everywhere.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from textual import events
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from zdd_tui.dashboard.widgets.drawing.fast_paint import Painter, crop_partial_updates
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.actions import ACTIONS, Action, find_action, key_name
from zdd_tui.model.production_lock import ProductionLock

ResultT = TypeVar("ResultT")


class ActionRequested(Message):
    """The operator requests an action of the registry."""

    def __init__(self, action_id: str) -> None:
        super().__init__()
        self.action_id = action_id


class ActionAvailability(Protocol):
    """Which actions exist now."""

    access: ProductionLock

    def is_offered(self, action_id: str) -> bool: ...


@runtime_checkable
class HasActionController(Protocol):
    """An application with an action controller."""

    @property
    def action_controller(self) -> ActionAvailability: ...


@runtime_checkable
class ShowsNewestState(Protocol):
    """An application that can show the newest state on a screen."""

    def show_newest(self, screen: Screen[Any]) -> None: ...


def action_bindings(actions: tuple[Action, ...]) -> list[BindingType]:
    """One binding per action; :meth:`ActionScreen.check_action` selects one of two that share a key."""
    return [Binding(each.key, f"act('{each.id}')", each.help, id=each.binding_id, show=False) for each in actions]


class PaintedScreen(Screen[ResultT]):
    """A screen whose views are painted together: only changed cells go to the terminal."""

    def __init__(self) -> None:
        super().__init__()
        crop_partial_updates(self)
        self._painter = Painter(self)
        self._views: list[LineView] = []

    @property
    def views(self) -> Sequence[LineView]:
        """The views of this screen; none while it is being composed."""
        if not self._views:
            self._views = list(self.query(LineView))
            for view in self._views:
                view.painter = self._painter
        return self._views

    @contextmanager
    def painted(self, *others: Widget) -> Iterator[Sequence[LineView]]:
        """Yields the views, and paints what they change within it.

        Args:
            others: further widgets whose layout the views depend on.
        """
        views = self.views
        with self._painter.batch([*views, *others]):
            yield views

    @property
    def is_in_front(self) -> bool:
        """Whether no screen is above this one. Textual's `is_current` is also true for the one below."""
        return self.app.screen_stack[-1:] == [self]


class ActionScreen(PaintedScreen[ResultT]):
    """A screen with the keys that work everywhere: rollback, pause, unlock, palette, help."""

    BINDINGS: ClassVar[list[BindingType]] = action_bindings(tuple(each for each in ACTIONS if each.is_global))

    def on_mount(self) -> None:
        """Marks production on every screen, also where a subclass has its own `on_mount`."""
        self.set_class(
            isinstance(self.app, HasActionController) and self.app.action_controller.access.guarded, "-production"
        )

    def on_screen_resume(self) -> None:
        """Shows what has changed while another screen covered it, before Textual draws it again."""
        if isinstance(self.app, ShowsNewestState):
            self.app.show_newest(self)

    def dismiss(self, result: ResultT | None = None) -> AwaitComplete:
        """Closes the screen, once.

        A key typed ahead, such as a second Enter, may arrive after it is closed; it must not close the screen below.
        """
        return super().dismiss(result) if self.app.screen_stack[-1:] == [self] else AwaitComplete()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """An action that does not exist now has no binding."""
        if action != "act" or not isinstance(self.app, HasActionController):
            return True
        return self.app.action_controller.is_offered(str(parameters[0]))

    def on_paste(self, event: events.Paste) -> None:
        """A paste runs no action. A text field would have taken it."""
        event.stop()
        self.notify("pasted text is ignored: no text field is open", markup=False, timeout=3)

    def key_label(self, action_id: str) -> str:
        """Name of an action's key on this screen now; a text field takes single letters."""
        binding_id = find_action(action_id).binding_id
        return next((key_name(key) for key, each in self.active_bindings.items() if each.binding.id == binding_id), "")

    def action_act(self, action_id: str) -> None:
        self.post_message(ActionRequested(action_id))

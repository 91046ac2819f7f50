"""What every screen shares: the keys that work everywhere, and who carries actions out.

A screen posts :class:`ActionRequested`; the application hands it to its
:class:`zdd_tui.dashboard.screens.actions.ActionController`. So the way back is two keys from
any screen that stands on :class:`ActionScreen`.
"""

from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from zdd_tui.model.actions import ACTIONS, Action, find_action, key_name
from zdd_tui.model.production_lock import ProductionLock

ResultT = TypeVar("ResultT")


class ActionRequested(Message):
    """The operator asks for an action of the registry."""

    def __init__(self, action_id: str) -> None:
        super().__init__()
        self.action_id = action_id


class ActionAvailability(Protocol):
    """Whoever knows which actions there are for the operator now."""

    access: ProductionLock

    def is_offered(self, action_id: str) -> bool: ...


@runtime_checkable
class HasActionController(Protocol):
    """An application whose operator carries actions out."""

    @property
    def action_controller(self) -> ActionAvailability: ...


def action_bindings(actions: tuple[Action, ...]) -> list[BindingType]:
    """One binding an action; two that share a key take turns by :meth:`ActionScreen.check_action`."""
    return [Binding(each.key, f"act('{each.id}')", each.help, id=each.binding_id, show=False) for each in actions]


class ActionScreen(Screen[ResultT]):
    """A screen with the keys that work everywhere: rollback, pause, unlock, palette, help."""

    BINDINGS: ClassVar[list[BindingType]] = action_bindings(tuple(each for each in ACTIONS if each.is_global))

    def on_mount(self) -> None:
        """Production is told by word and by frame on every screen, a subclass's own mounting aside."""
        self.set_class(
            isinstance(self.app, HasActionController) and self.app.action_controller.access.guarded, "-production"
        )

    def dismiss(self, result: ResultT | None = None) -> AwaitComplete:
        """Leaves the screen, once.

        What was typed ahead reaches it after it has gone, such as a second Enter: the screen on top by then is another
        one, and must not go in its place.
        """
        return super().dismiss(result) if self.app.screen_stack[-1:] == [self] else AwaitComplete()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What may not be had now does not exist."""
        if action != "act" or not isinstance(self.app, HasActionController):
            return True
        return self.app.action_controller.is_offered(str(parameters[0]))

    def key_label(self, action_id: str) -> str:
        """What an action's key is called on this screen now; a text field takes single letters for itself."""
        wanted = find_action(action_id).binding_id
        return next((key_name(key) for key, each in self.active_bindings.items() if each.binding.id == wanted), "")

    def action_act(self, action_id: str) -> None:
        self.post_message(ActionRequested(action_id))

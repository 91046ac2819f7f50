"""What a pane tells its screen when the operator opens a row."""

from textual.message import Message


class RowChosen(Message):
    """Enter on a row of a pane. Whoever shows the pane opens what there is to see.

    Attributes:
        pane: the pane's name: ``pods``, ``backfill``, ``flags``, ``guard``, ``gates``, ``events`` or ``failed rows``.
        identity: of the row: a pod's uid, a flag's key, a rule's name, a gate's phase and name, an event's id, a failed
            row's key; empty where the pane has no rows.
        row: the row's value as it was shown: a Pod, FlagView, GuardReading, GateRow, Event or FailedRow; None without
            rows.
        search: the operator wants to search in what is opened.
    """

    def __init__(self, pane: str, identity: str, row: object = None, *, search: bool = False) -> None:
        super().__init__()
        self.pane = pane
        self.identity = identity
        self.row = row
        self.search = search

"""What the headless demo says while it walks."""

import sys
import time

from zdd_tui.model.records import ReleaseRecord


class Ticker:
    """Progress on stderr: a line whenever something that a person would notice has changed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def say(self, text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._began:6.1f}s  {text}\n")
        sys.stderr.flush()

    def show(self, record: ReleaseRecord) -> None:
        release = record.release
        place = release.current.name if release.current else "before the first phase"
        text = f"{place}: {release.state}"
        if (backfill := record.backfill) is not None and place == "backfill" and backfill.rows_total:
            tenth = 10 * min(backfill.rows_done, backfill.rows_total) // backfill.rows_total
            text += f" {10 * tenth}%" + (", paused" if release.paused else "")
        if text != self._last:
            self._last = text
            self.say(text)

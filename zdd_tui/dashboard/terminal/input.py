"""Reads the terminal's input, and bounds it before anything processes it.

Many terminals send a paste as if it was typed. As keys it would run actions, and 125 KB of them would take Textual
minutes. So a long run of characters in one read is a paste, however the terminal sends it; of a paste only the first
characters are kept, and keys that come faster than anybody types are dropped.
"""

import os
import re
import selectors
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from textual import events
from textual.message import Message

try:
    from textual._xterm_parser import XTermParser
except ImportError:  # another Textual: the driver uses its own input, which is not bounded
    CAN_READ_INPUT = False
else:
    CAN_READ_INPUT = True

MIN_PASTE_LENGTH = 64
"""Characters without an escape sequence, in one read, from which they are a paste: nobody types that many at once."""

MAX_PASTE_LENGTH = 4096
"""Characters of a paste that are kept; every text field takes fewer."""

PASTE_GAP_SECONDS = 0.1
"""Two parts of one paste are not further apart; the last part may be short."""

KEY_BURST = 500
"""Keys that may wait at once."""

KEYS_PER_SECOND = 100
"""Keys that are taken in the long run; a held key repeats 30 to 60 times a second."""

_READ_SIZE = 4096
_POLL_SECONDS = 0.1
_RUN = re.compile("[^\x1b]+")
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?<]*[A-Za-z~]|O[A-Za-z])")
_OPEN_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?<]*|O)?")


@dataclass(frozen=True, slots=True)
class PastedText:
    """A part of a paste."""

    text: str


class InputSplitter:
    """Splits the input into keys, for the parser of escape sequences, and pastes."""

    def __init__(self) -> None:
        self._last_paste_at = float("-inf")
        self._kept = 0
        self._open_sequence = ""

    def split(self, text: str, now: float) -> Iterator[str | PastedText]:
        """The parts of one read, in order.

        Args:
            now: monotonic seconds.
        """
        start = 0
        for run in _RUN.finditer(text):
            # A run may begin with the end of an escape sequence, such as `ESC [ 200 ~`, which starts a paste: the
            # parser needs it, or it would wait for the end of the paste for ever.
            before = "\x1b" if run.start() else self._open_sequence
            sequence = _SEQUENCE.match(before + run[0])
            place = run.start() + (sequence.end() - len(before) if sequence else 0)
            is_continued = not before and now - self._last_paste_at <= PASTE_GAP_SECONDS
            if run.end() - place >= MIN_PASTE_LENGTH or (is_continued and run.end() > place):
                if place > start:
                    yield text[start:place]
                yield from self._keep(text[place : run.end()], now)
                start = run.end()
        if start < len(text):
            yield text[start:]
        rest = text[text.rfind("\x1b") :] if "\x1b" in text else self._open_sequence + text
        self._open_sequence = rest if _OPEN_SEQUENCE.fullmatch(rest) else ""

    def _keep(self, text: str, now: float) -> Iterator[PastedText]:
        if now - self._last_paste_at > PASTE_GAP_SECONDS:
            self._kept = 0
        self._last_paste_at = now
        kept = text[: MAX_PASTE_LENGTH - self._kept]
        self._kept += len(kept)
        if kept:
            yield PastedText(kept)


class KeyBudget:
    """A token bucket: which of many keys are taken."""

    def __init__(self) -> None:
        self._left = float(KEY_BURST)
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Whether a key at that time, in monotonic seconds, is taken."""
        self._left = min(float(KEY_BURST), self._left + (now - self._at) * KEYS_PER_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def read_input(descriptor: int, exit_event: threading.Event, handle: Callable[[Message], None]) -> None:
    """Reads until the event is set, as :meth:`textual.drivers.linux_driver.LinuxDriver.run_input_thread` does.

    Args:
        handle: takes each key, paste and other event.
    """
    parser, splitter, budget = XTermParser(), InputSplitter(), KeyBudget()
    decoder = getincrementaldecoder("utf-8")("replace")

    def handle_parsed(parsed: Iterator[Message]) -> None:
        for event in parsed:
            if not isinstance(event, events.Key) or budget.take(time.monotonic()):
                handle(event)

    with selectors.SelectSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        is_last = False
        while not is_last:
            is_last = exit_event.is_set()
            if selector.select(0 if is_last else _POLL_SECONDS):
                data = os.read(descriptor, _READ_SIZE)
                for part in splitter.split(decoder.decode(data, final=is_last), time.monotonic()):
                    if isinstance(part, PastedText):
                        handle(events.Paste(part.text.replace("\x00", "")))
                    else:
                        handle_parsed(iter(parser.feed(part)))
                if not data:  # the terminal is closed; a signal ends the program
                    exit_event.wait(_POLL_SECONDS)
            handle_parsed(iter(parser.tick()))

"""Escape sequences that carry text to the terminal: the clipboard (OSC 52) and notifications (OSC 9).

Whatever text goes in, no control character of it comes out: the clipboard's is base64, a notification's is cleaned.
Inside tmux and screen a sequence is wrapped, so that it reaches the terminal outside. Behind SSH only TERM is left of
either, and one inside of the other leaves the marks of both: then what goes out is harmless in both.
"""

import base64
from collections.abc import Mapping

from zdd_tui.dashboard.widgets.drawing.line import sanitize

CLIPBOARD_LIMIT = 48 * 1024
"""Bytes of text: as base64 they stay under the 74,994 that the strictest terminals take."""

_SCREEN_CHUNK = 256
"""Bytes of one piece that GNU screen hands on. What it does not know and what is longer it may print."""


def clipboard_sequence(text: str, environ: Mapping[str, str]) -> str:
    """Puts a text into the clipboard of the operator's own machine.

    Args:
        text: at most :data:`CLIPBOARD_LIMIT` bytes of it arrive; see :func:`truncate_for_clipboard`.
    """
    encoded = base64.b64encode(truncate_for_clipboard(text).encode()).decode()
    sequence = f"\x1b]52;c;{encoded}\x07"
    wrapped = _wrap_for_multiplexer(sequence, environ)
    # tmux keeps the plain one for itself where `set-clipboard on` lets it, and hands on what is wrapped.
    plain_too = _wrap_for_tmux(environ) or (_wrap_for_screen_or_tmux(environ) and len(sequence) <= _SCREEN_CHUNK)
    return sequence if wrapped == sequence else wrapped + sequence if plain_too else wrapped


def truncate_for_clipboard(text: str) -> str:
    """The beginning of a text that fits into the clipboard."""
    raw = text.encode()
    return text if len(raw) <= CLIPBOARD_LIMIT else raw[:CLIPBOARD_LIMIT].decode(errors="ignore")


def notification_sequence(text: str, environ: Mapping[str, str]) -> str:
    """A bell, and the text where the terminal shows notifications."""
    return "\x07" + _wrap_for_multiplexer(f"\x1b]9;{sanitize(text)}\x07", environ)


def _wrap_for_multiplexer(sequence: str, environ: Mapping[str, str]) -> str:
    if _wrap_for_tmux(environ):
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{doubled}\x1b\\"
    if "STY" in environ or _wrap_for_screen_or_tmux(environ):
        pieces = [sequence[at : at + _SCREEN_CHUNK] for at in range(0, len(sequence), _SCREEN_CHUNK)]
        return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)
    return sequence


def _wrap_for_tmux(environ: Mapping[str, str]) -> bool:
    return "TMUX" in environ and "STY" not in environ


def _wrap_for_screen_or_tmux(environ: Mapping[str, str]) -> bool:
    """In GNU screen or in tmux, nobody knows in which: in one that runs in the other, whose marks it has inherited, or
    behind SSH, where a tmux may call itself screen and TERM is all that is told."""
    marks = environ.keys() & {"TMUX", "STY"}
    return len(marks) == 2 or (not marks and environ.get("TERM", "").startswith("screen"))

"""Escape sequences that carry text to the terminal: the clipboard (OSC 52) and notifications (OSC 9).

Whatever text goes in, no control character of it comes out: the clipboard's is base64, a notification's is cleaned.
Inside tmux and screen a sequence is wrapped, so that it reaches the terminal outside. Behind SSH only TERM is left of
either, and one inside of the other leaves the marks of both: then what goes out is harmless in both.
"""

import base64
from collections.abc import Mapping

from zdd_tui.dashboard.widgets.drawing.line import outside

CLIPBOARD_LIMIT = 48 * 1024
"""Bytes of text: as base64 they stay under the 74,994 that the strictest terminals take."""

_PASS = 256
"""Bytes of one piece that GNU screen hands on. What it does not know and what is longer it may print."""


def clipboard(text: str, environ: Mapping[str, str]) -> str:
    """Puts a text into the clipboard of the operator's own machine.

    Args:
        text: at most :data:`CLIPBOARD_LIMIT` bytes of it arrive; see :func:`within_limit`.
    """
    encoded = base64.b64encode(within_limit(text).encode()).decode()
    sequence = f"\x1b]52;c;{encoded}\x07"
    wrapped = _wrapped(sequence, environ)
    # tmux keeps the plain one for itself where `set-clipboard on` lets it, and hands on what is wrapped.
    plain_too = _in_tmux(environ) or (_in_either(environ) and len(sequence) <= _PASS)
    return sequence if wrapped == sequence else wrapped + sequence if plain_too else wrapped


def within_limit(text: str) -> str:
    """The beginning of a text that fits into the clipboard."""
    raw = text.encode()
    return text if len(raw) <= CLIPBOARD_LIMIT else raw[:CLIPBOARD_LIMIT].decode(errors="ignore")


def notification(text: str, environ: Mapping[str, str]) -> str:
    """A bell, and the text where the terminal shows notifications."""
    return "\x07" + _wrapped(f"\x1b]9;{outside(text)}\x07", environ)


def _wrapped(sequence: str, environ: Mapping[str, str]) -> str:
    if _in_tmux(environ):
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{doubled}\x1b\\"
    if "STY" in environ or _in_either(environ):
        pieces = [sequence[at : at + _PASS] for at in range(0, len(sequence), _PASS)]
        return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)
    return sequence


def _in_tmux(environ: Mapping[str, str]) -> bool:
    return "TMUX" in environ and "STY" not in environ


def _in_either(environ: Mapping[str, str]) -> bool:
    """In GNU screen or in tmux, nobody knows in which: in one that runs in the other, whose marks it has inherited, or
    behind SSH, where a tmux may call itself screen and TERM is all that is told."""
    marks = environ.keys() & {"TMUX", "STY"}
    return len(marks) == 2 or (not marks and environ.get("TERM", "").startswith("screen"))

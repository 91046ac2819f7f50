"""Escape sequences that carry text to the terminal: the clipboard (OSC 52) and notifications (OSC 9).

No control character of the text is sent: the clipboard text is base64, in a notification blanks replace them.
Inside tmux and GNU screen a sequence is wrapped, so that it reaches the outer terminal. Over SSH only TERM shows which
of the two it is, and one inside the other leaves the variables of both: then a form is sent that is harmless in both.
"""

import base64
from collections.abc import Mapping

from zdd_tui.model.masking import replace_unprintable

CLIPBOARD_LIMIT = 48 * 1024
"""Bytes of text: as base64 they stay under the 74,994 that the strictest terminals accept."""

_SCREEN_CHUNK = 256
"""Bytes of one piece that GNU screen passes on. It may print longer pieces, and sequences that it does not know."""


def clipboard_sequence(text: str, environ: Mapping[str, str]) -> str:
    """Copies a text, truncated to :data:`CLIPBOARD_LIMIT` bytes, into the clipboard of the operator's own machine."""
    encoded = base64.b64encode(truncate_for_clipboard(text).encode()).decode()
    sequence = f"\x1b]52;c;{encoded}\x07"
    wrapped = _wrap_for_multiplexer(sequence, environ)
    # tmux uses the plain sequence itself if `set-clipboard on` is set, and passes on the wrapped one.
    needs_plain = _wrap_for_tmux(environ) or (_wrap_for_screen_or_tmux(environ) and len(sequence) <= _SCREEN_CHUNK)
    return sequence if wrapped == sequence else wrapped + sequence if needs_plain else wrapped


def truncate_for_clipboard(text: str) -> str:
    """The part of a text, from its start, that fits into the clipboard."""
    raw = text.encode()
    return text if len(raw) <= CLIPBOARD_LIMIT else raw[:CLIPBOARD_LIMIT].decode(errors="ignore")


def notification_sequence(text: str, environ: Mapping[str, str]) -> str:
    """A bell, and the text for terminals that show notifications."""
    return "\x07" + _wrap_for_multiplexer(f"\x1b]9;{replace_unprintable(text)}\x07", environ)


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
    """Whether it is GNU screen or tmux, but unknown which: one inside the other, or over SSH, where only TERM is known
    and tmux may call itself screen."""
    variables = environ.keys() & {"TMUX", "STY"}
    return len(variables) == 2 or (not variables and environ.get("TERM", "").startswith("screen"))

"""Files that a user names: regular ones only, up to a size, refused at once."""

import gzip
import os
import socket
import time
from pathlib import Path

import pytest

from zdd_tui.backends.files import MAX_TEXT_BYTES, read_text
from zdd_tui.dashboard.recording import reader
from zdd_tui.model.errors import PlanError, ZddError


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_TEXT_BYTES + 1)


FILES = {
    "a pipe": (make_fifo, "a pipe"),
    "a directory": (Path.mkdir, "is a directory"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "a socket": (make_socket, "cannot be read"),
    "large": (make_large, "larger than 1,024 kB"),
    "a NUL": (lambda path: path.write_bytes(b"SELECT 1; \0 DROP TABLE users"), "NUL at byte 10"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
    "a link to itself": (lambda path: path.symlink_to(path), "cannot be read"),
    "a long name": (lambda path: None, "there is no file"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_plan_is_refused_at_once(tmp_path: Path, case: str) -> None:
    make, text = FILES[case]
    file = tmp_path / "plan.yaml"
    make(file)
    began = time.monotonic()
    with pytest.raises(PlanError, match=text) as caught:
        read_text(file)
    assert caught.value.hint
    assert time.monotonic() - began < 5
    with pytest.raises(ZddError):
        reader.load_recording(file)


def test_an_odd_name() -> None:
    for name in ("x" * 5000, "a\0b", "a\ud800b"):
        with pytest.raises(PlanError):
            read_text(name)


def test_a_compressed_bomb_is_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BYTES", 1 << 20)
    header = b'{"zdd": "recording", "version": 2, "plan": "x", "wall": 0, "monotonic": 0}\n'
    for body in (b"{}\n" * 500_000, b" " * (40 << 20)):
        file = tmp_path / "bomb.gz"
        file.write_bytes(gzip.compress(header + body))
        with pytest.raises(ZddError, match=r"line 2 is not part of a recording|is no recording: it unpacks"):
            reader.load_recording(file)

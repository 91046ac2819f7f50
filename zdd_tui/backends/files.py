"""Reading of files that the user names."""

from pathlib import Path

from zdd_tui.model.errors import PlanError, ZddError


def read_text(file: str | Path, *, missing_hint: str = "check the path", error_type: type[ZddError] = PlanError) -> str:
    """Reads a text file in UTF-8, with or without a byte order mark.

    Raises:
        PlanError: it cannot be read; or `error_type`.
    """
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error_type(f"there is no file {file}", missing_hint) from None
    except IsADirectoryError:
        raise error_type(f"{file} is a directory", "name a file in it") from None
    except OSError as error:
        raise error_type(f"{file} cannot be read: {error.strerror}", "check its permissions") from None
    except UnicodeDecodeError as error:
        raise error_type(f"{file} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except ValueError:
        raise error_type(f"{str(file)!r} is not a file name", "check the path") from None

"""Files that a person names."""

from pathlib import Path

from zdd_tui.model.errors import PlanError


def read_text(file: str) -> str:
    """The text of a file; `-` is no name here.

    Raises:
        PlanError: it cannot be read.
    """
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PlanError(f"there is no file {file}", "check the path") from None
    except IsADirectoryError:
        raise PlanError(f"{file} is a directory", "name the files in it") from None
    except OSError as error:
        raise PlanError(f"{file} cannot be read: {error.strerror}", "check its permissions") from None
    except UnicodeDecodeError as error:
        raise PlanError(f"{file} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except ValueError:
        raise PlanError(f"{file!r} is no file name", "check the path") from None

"""``python -m zdd_tui.demo.sample``: the process of one pod."""

import asyncio
import logging
import os
import sys

from zdd_tui.demo.sample.app import run_app
from zdd_tui.demo.sample.settings import Settings
from zdd_tui.model.errors import ZddError


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings.from_env(os.environ)
    except ZddError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0 if asyncio.run(run_app(settings)) else 1


if __name__ == "__main__":
    sys.exit(main())

"""``python -m zdd_tui``: the same as ``zdd``."""

import sys

from zdd_tui.cli import main

sys.exit(main())

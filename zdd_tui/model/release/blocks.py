"""The blocks of SQL that a preview shortens; apart from the preview, which imports what a screen does not need."""

from collections.abc import Mapping, Sequence


def find_blocks(preview: Sequence[str], blocks: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    """The blocks that a preview shortens, in its order.

    Args:
        blocks: see :func:`zdd_tui.model.release.preview.preview_blocks`.
    """
    found = [title for line in preview if " … (" in line for title in blocks if title in line]
    return {title: blocks[title] for title in found}

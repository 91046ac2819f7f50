"""What the engine does begins with a store: the databases of its tests have the zdd schema from the start."""

from collections.abc import Iterator

import pytest

from tests.conftest import create_database
from zdd_tui.testbed.servers import PostgresServer


@pytest.fixture
def pg_dsn(pg: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The DSN (superuser, with password) of a database with nothing but the zdd schema; dropped after the test."""
    with create_database(pg, migrated_template) as dsn:
        yield dsn

"""Flyway's names, order, checksums and states."""

from typing import Any

import pytest

from tests.model.migrations.support import files_of, find_pending, names
from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.migrations.flyway import FlywayVersion, checksum
from zdd_tui.model.migrations.registry import find_tool


def row(rank: int, version: str | None, **changes: Any) -> dict[str, Any]:
    """A row of flyway_schema_history; its checksum is that of ``SELECT 1``."""
    return {
        "installed_rank": rank,
        "version": version,
        "description": "a",
        "type": "SQL",
        "script": f"V{version}__a.sql",
        "checksum": checksum("SELECT 1"),
        "success": True,
    } | changes


def test_versions_are_compared_by_number() -> None:
    texts = ["1.10", "1.9", "2", "1.9.1", "10", "1"]
    assert sorted(texts, key=FlywayVersion) == ["1", "1.9", "1.9.1", "1.10", "2", "10"]
    assert FlywayVersion("1.0") == FlywayVersion("1")


def test_line_ends_and_a_byte_order_mark_do_not_count() -> None:
    [plain] = files_of({"V1__a.sql": "SELECT 1;\nSELECT 'ü';\n"})
    [other] = files_of({"V1__a.sql": b"\xef\xbb\xbf" + "SELECT 1;\r\nSELECT 'ü';".encode()})
    assert checksum(plain.text) == checksum(other.text)
    assert checksum("SELECT 1") != checksum("SELECT 2")


def test_what_is_newer_is_pending_in_order_with_its_row() -> None:
    files = {f"V{version}__add_it.sql": "SELECT 1" for version in ("1", "1_9", "1.10", "2")}
    found = find_pending("flyway", files | {"U2__add_it.sql": "SELECT 3"}, [row(1, "1"), row(2, "1.9")])
    assert names(found) == ["V1.10__add_it.sql", "V2__add_it.sql"]
    assert found.pending[1].down == "SELECT 3"
    assert found.record.statements[0] == (
        'INSERT INTO public.versions ("installed_rank", "version", "description", "type", "script", "checksum",'
        ' "execution_time", "success", "installed_by") VALUES'
        f" (3, '1.10', 'add it', 'SQL', 'V1.10__add_it.sql', {checksum('SELECT 1')}, 0, true, current_user)"
    )
    assert found.record.undo[0] == (
        """DELETE FROM public.versions WHERE "installed_rank" = 4 AND "script" = 'V2__add_it.sql'"""
    )


@pytest.mark.parametrize(
    ("files", "rows", "error", "text"),
    [
        (["V1__a.sql"], [row(1, "1", checksum=5)], Refused, "V1__a.sql was changed after it was applied"),
        (["V1__a.sql"], [row(1, "1", success=False)], Refused, "V1__a.sql failed when Flyway applied it"),
        (["V1__a.sql", "V1.0__b.sql"], [], PlanError, "have the same version"),
        (["V1__a.sql", "V1.5__b.sql", "V2__a.sql"], [row(1, "1"), row(2, "2")], Refused, "V1.5__b.sql is older than"),
    ],
)
def test_flyway_would_stop_here(files: list[str], rows: list[Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        find_pending("flyway", dict.fromkeys(files, "SELECT 1"), rows)


def test_out_of_order_is_taken_by_option_or_by_configuration() -> None:
    files = dict.fromkeys(["V1__a.sql", "V1.5__b.sql", "V2__a.sql"], "SELECT 1")
    rows = [row(1, "1"), row(2, "2")]
    assert names(find_pending("flyway", files, rows, allow_out_of_order=True)) == ["V1.5__b.sql"]
    assert names(find_pending("flyway", files | {"flyway.conf": "flyway.outOfOrder=true"}, rows)) == ["V1.5__b.sql"]
    assert names(find_pending("flyway", files | {"../flyway.toml": "[flyway]\noutOfOrder = true"}, rows))


def test_a_baseline_covers_what_is_older_and_a_deleted_or_undone_row_does_not_count() -> None:
    files = {f"V{version}__a.sql": "SELECT 1" for version in (1, 2, 3, 4)}
    assert names(find_pending("flyway", files, [row(1, "2", type="BASELINE", checksum=None)])) == [
        "V3__a.sql",
        "V4__a.sql",
    ]
    rows = [row(1, "1"), row(2, "2"), row(3, "3"), row(4, "3", type="UNDO_SQL"), row(5, "2", type="DELETE")]
    assert names(find_pending("flyway", files, rows)) == ["V2__a.sql", "V3__a.sql", "V4__a.sql"]


def test_a_repeatable_migration_is_applied_when_it_has_changed_after_all_others() -> None:
    files = {"V2__a.sql": "SELECT 1", "R__b.sql": "SELECT 1", "R__a.sql": "SELECT 2", "R__c.sql": "SELECT 1"}
    rows = [row(1, None, description="b"), row(2, None, description="a")]
    found = find_pending("flyway", files, rows)
    assert names(found) == ["V2__a.sql", "R__a.sql", "R__c.sql"]
    assert "NULL, 'a', 'SQL', 'R__a.sql'" in found.record.statements[1]
    assert any("repeatable migration" in note for note in found.notes)


def test_placeholders_come_from_the_configuration_or_stop_the_plan() -> None:
    files = {"V1__a.sql": "SELECT '${who}'", "R__r.sql": "SELECT '${who}'"}
    with pytest.raises(PlanError, match=r"V1__a\.sql:1: the placeholder \$\{who\} has no value"):
        find_pending("flyway", files)
    found = find_pending("flyway", files | {"flyway.toml": '[flyway.placeholders]\nWho = "me"'})
    assert [each.up for each in found.pending] == ["SELECT 'me'", "SELECT 'me'"]
    # A versioned file's checksum is of the text as it stands, a repeatable one's of the text as it is applied.
    assert str(checksum("SELECT '${who}'")) in found.record.statements[0]
    assert str(checksum("SELECT 'me'")) in found.record.statements[1]
    found = find_pending("flyway", files | {"conf/flyway.conf": "flyway.placeholderReplacement = false"})
    assert found.pending[0].up == "SELECT '${who}'"


def test_names_that_flyway_ignores_are_told_and_other_prefixes_are_refused() -> None:
    found = find_pending("flyway", {"V1__a.sql": "SELECT 1", "v2__b.sql": "", "V3_c.sql": "", "Vx__d.sql": ""})
    assert names(found) == ["V1__a.sql"]
    assert found.notes == ("ignored, as Flyway does not recognize the name: V3_c.sql, Vx__d.sql, v2__b.sql",)
    with pytest.raises(PlanError, match="setting sqlmigrationprefix is 'M'"):
        find_pending("flyway", {"V1__a.sql": "", "flyway.conf": "flyway.sqlMigrationPrefix=M"})


def test_the_table_is_the_configured_one() -> None:
    config = "flyway.table=history\nflyway.defaultSchema=app\n# flyway.table=x"
    assert find_tool("flyway").table_name(files_of({"flyway.conf": config})) == "app.history"
    assert find_tool("flyway").table_name(()) == "flyway_schema_history"

"""Migration tools as their users run them.

Each writes the same five migrations in its own form, applies what is pending, and tells what is.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

UP = {
    1: "CREATE TABLE notes (id bigint PRIMARY KEY, body text, user_id bigint); CREATE TABLE labels (name text);",
    2: "ALTER TABLE notes ADD COLUMN kind text;",
    3: "CREATE INDEX notes_user_idx ON notes (user_id);\nINSERT INTO labels (name) VALUES ('it''s ü');",
    4: "ALTER TABLE notes ALTER COLUMN user_id SET NOT NULL;\n\n"
    "CREATE TABLE tags (id bigint PRIMARY KEY, note_id bigint REFERENCES notes (id));\n"
    "INSERT INTO tags (id) VALUES (1);",
    5: "ALTER TABLE tags ADD COLUMN name text;",
}
DOWN = {
    1: "DROP TABLE notes;",
    2: "ALTER TABLE notes DROP COLUMN kind;",
    3: "DELETE FROM labels WHERE name = 'it''s ü';\nDROP INDEX notes_user_idx;",
    4: "DROP TABLE tags;\nALTER TABLE notes ALTER COLUMN user_id DROP NOT NULL;",
    5: "ALTER TABLE tags DROP COLUMN name;",
}
TITLES = {1: "create_notes", 2: "add_kind", 3: "index_user", 4: "require_user", 5: "name_tags"}


class ToolFailed(Exception):
    """A tool's command ended with an error."""


class ToolDriver:
    """A tool in a directory of its own.

    Attributes:
        name: as ``--tool`` has it.
        program: what has to be installed.
        volatile: columns of the version table that differ from run to run.
        options: further ones of `zdd plan`.
    """

    name = ""
    program = ""
    table = ""
    volatile: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    order_by = "1"

    @property
    def rows(self) -> str:
        """The rows of the version table that do not depend on how often the tool has run."""
        return self.table

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder, self.dsn = folder, dsn
        self.prepare()

    @classmethod
    def why_missing(cls) -> str:
        """Why it cannot run here; empty where it can."""
        return "" if shutil.which(cls.program) else f"{cls.program} is not installed"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True)

    def write(self, *numbers: int) -> None:
        """Adds migrations."""
        for number in numbers:
            for name, text in self.files(number).items():
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def files(self, number: int) -> Mapping[str, str]:
        raise NotImplementedError

    def apply(self) -> None:
        """Applies what is pending.

        Raises:
            ToolFailed: the tool does not.
        """
        raise NotImplementedError

    def count_pending(self) -> int:
        """How many migrations the tool would apply."""
        raise NotImplementedError

    def run(self, *command: str, **environment: str) -> str:
        ended = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"DATABASE_URL": self.dsn} | environment,
            timeout=100,
            check=False,
        )
        if ended.returncode:
            raise ToolFailed(f"{command}: {ended.stdout}\n{ended.stderr}")
        return ended.stdout + ended.stderr


class FlywayDriver(ToolDriver):
    name, program, table = "flyway", "flyway", "flyway_schema_history"
    volatile = ("installed_on", "execution_time", "installed_rank")

    @property
    def rows(self) -> str:
        order = "ORDER BY version, script, installed_rank DESC"
        return f"(SELECT DISTINCT ON (version, script) * FROM flyway_schema_history {order})"

    def files(self, number: int) -> Mapping[str, str]:
        name = f"{number}__{TITLES[number]}.sql"
        files = {f"V{name}": UP[number], f"U{name}": DOWN[number]}
        if number in (2, 4):  # the second one changes it
            files["R__note_bodies.sql"] = (
                f"CREATE OR REPLACE VIEW note_bodies AS SELECT {number} AS n, body FROM notes;\n"
            )
        if number == 3:
            files[f"V{name}"] = f"\ufeff{UP[3]}\n\n-- the end\r\n"
        return files

    def _flyway(self, *words: str) -> str:
        parts = urlsplit(self.dsn)
        return self.run(
            "flyway",
            f"-url=jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}",
            f"-user={parts.username}",
            f"-locations=filesystem:{self.folder}",
            *words,
            FLYWAY_PASSWORD=parts.password or "",
        )

    def apply(self) -> None:
        self._flyway("migrate")

    def count_pending(self) -> int:
        output = self._flyway("info", "-outputType=json")
        states = [each["state"] for each in json.loads(output[output.index("{") :])["migrations"]]
        pending = states.count("Pending")  # a repeatable one is also listed as it was: Outdated
        assert set(states) <= {"Pending", "Outdated", "Superseded", "Success", "Available"}, states
        if not pending:
            self._flyway("validate")
        return pending


class GolangMigrateDriver(ToolDriver):
    name, program, table = "golang-migrate", "migrate", "schema_migrations"

    def files(self, number: int) -> Mapping[str, str]:
        name = f"{number:04}_{TITLES[number]}"
        return {f"{name}.up.sql": UP[number], f"{name}.down.sql": DOWN[number]}

    def _migrate(self, *words: str) -> str:
        return self.run("migrate", "-path", ".", "-database", f"{self.dsn}?sslmode=disable", *words)

    def apply(self) -> None:
        self._migrate("up")

    def count_pending(self) -> int:
        version = int(self._migrate("version").split()[0])
        return sum(int(path.name[:4]) > version for path in self.folder.glob("*.up.sql"))


class GooseDriver(ToolDriver):
    name, program, table = "goose", "goose", "goose_db_version"
    volatile = ("id", "tstamp")
    order_by = "version_id"

    def files(self, number: int) -> Mapping[str, str]:
        up = f"-- +goose StatementBegin\n{UP[number]}\n-- +goose StatementEnd"
        text = f"-- +goose Up\n{up}\n-- +goose Down\n{DOWN[number]}\n"
        return {f"{number:05}_{TITLES[number]}.sql": text}

    def _goose(self, word: str) -> str:
        return self.run("goose", "-dir", ".", "postgres", f"{self.dsn}?sslmode=disable", word)

    def apply(self) -> None:
        self._goose("up")

    def count_pending(self) -> int:
        return len(re.findall(r"Pending\s+-- ", self._goose("status")))


class DbmateDriver(ToolDriver):
    name, program, table = "dbmate", "dbmate", "schema_migrations"

    def files(self, number: int) -> Mapping[str, str]:
        text = f"-- migrate:up transaction:false\n{UP[number]}\n\n-- migrate:down\n{DOWN[number]}\n"
        return {f"2024010100000{number}_{TITLES[number]}.sql": text}

    def _dbmate(self, *words: str) -> str:
        return self.run("dbmate", "-d", ".", "--no-dump-schema", "--url", f"{self.dsn}?sslmode=disable", *words)

    def apply(self) -> None:
        self._dbmate("migrate")

    def count_pending(self) -> int:
        return int(re.search(r"Pending: (\d+)", self._dbmate("status"))[1])  # type: ignore[index]


class SqlxDriver(ToolDriver):
    name, program, table = "sqlx", "sqlx", "_sqlx_migrations"
    volatile = ("installed_on", "execution_time")

    def files(self, number: int) -> Mapping[str, str]:
        name = f"{number:04}_{TITLES[number]}"
        return {f"{name}.up.sql": UP[number], f"{name}.down.sql": DOWN[number]}

    def apply(self) -> None:
        self.run("sqlx", "migrate", "run", "--source", ".")

    def count_pending(self) -> int:
        lines = self.run("sqlx", "migrate", "info", "--source", ".").splitlines()
        assert not any("mismatch" in line for line in lines), lines
        return sum("/pending" in line for line in lines)


class PrismaDriver(ToolDriver):
    """``ZDD_TEST_PRISMA`` names a folder with Prisma in its node_modules, and a prisma.config.ts where it needs one."""

    name, program, table = "prisma", "npx", "_prisma_migrations"
    volatile = ("id", "started_at", "finished_at")
    order_by = "migration_name"

    @classmethod
    def why_missing(cls) -> str:
        return super().why_missing() or ("" if os.environ.get("ZDD_TEST_PRISMA") else "ZDD_TEST_PRISMA is not set")

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "node_modules").symlink_to(Path(os.environ["ZDD_TEST_PRISMA"], "node_modules"))
        if (config := Path(os.environ["ZDD_TEST_PRISMA"], "prisma.config.ts")).exists():
            shutil.copy(config, self.folder)
        (self.folder / "package.json").write_text("{}")
        (self.folder / "prisma/migrations").mkdir(parents=True)
        (self.folder / "prisma/schema.prisma").write_text(
            'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n'
        )
        (self.folder / "prisma/migrations/migration_lock.toml").write_text('provider = "postgresql"\n')

    def files(self, number: int) -> Mapping[str, str]:
        folder = f"prisma/migrations/2024010100000{number}_{TITLES[number]}"
        return {f"{folder}/migration.sql": UP[number] + "\r\n", f"{folder}/down.sql": DOWN[number]}

    def apply(self) -> None:
        self.run("npx", "prisma", "migrate", "deploy", CHECKPOINT_DISABLE="1")

    def count_pending(self) -> int:
        try:
            output = self.run("npx", "prisma", "migrate", "status", CHECKPOINT_DISABLE="1")
        except ToolFailed as error:  # it fails while something is pending
            output = str(error)
            assert "not yet been applied" in output, output
        else:
            assert "Database schema is up to date!" in output, output
        return len(re.findall(r"^2024010100000\d_", output, re.MULTILINE))


class PythonDriver(ToolDriver):
    """A tool of the test's own Python."""

    @classmethod
    def why_missing(cls) -> str:
        code = f"import {cls.program}"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        return f"{cls.program} is not installed" if ended.returncode else ""


class AlembicDriver(PythonDriver):
    name, program, table = "alembic", "alembic", "alembic_version"
    options = ("--tool-command", f"{sys.executable} -m alembic")
    code: ClassVar = {
        1: "op.create_table('notes', sa.Column('id', sa.BigInteger, primary_key=True), sa.Column('body', sa.Text),\n"
        "        sa.Column('user_id', sa.BigInteger)); op.create_table('labels', sa.Column('name', sa.Text))",
        2: "op.add_column('notes', sa.Column('kind', sa.Text))",
        3: "op.create_index('notes_user_idx', 'notes', ['user_id']); op.execute(\"INSERT INTO labels VALUES ('x')\")",
        4: "op.alter_column('notes', 'user_id', nullable=False)\n"
        "    op.create_table('tags', sa.Column('id', sa.BigInteger,\n"
        "        primary_key=True), sa.Column('note_id', sa.BigInteger, sa.ForeignKey('notes.id')))",
        5: "op.add_column('tags', sa.Column('name', sa.Text))",
    }
    back: ClassVar = {
        1: "op.drop_table('notes')",
        2: "op.drop_column('notes', 'kind')",
        3: "op.execute(\"DELETE FROM labels WHERE name = 'x'\"); op.drop_index('notes_user_idx')",
        4: "op.drop_table('tags'); op.alter_column('notes', 'user_id', nullable=True)",
        5: "op.drop_column('tags', 'name')",
    }

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/alembic\n")
        (self.folder / "alembic/versions").mkdir(parents=True)
        (self.folder / "alembic/script.py.mako").write_text("")
        (self.folder / "alembic/env.py").write_text(
            "import os\nfrom alembic import context\nimport sqlalchemy as sa\n"
            "url = os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+psycopg:')\n"
            "if context.is_offline_mode():\n"
            "    context.configure(url=url, literal_binds=True)\n"
            "    with context.begin_transaction():\n        context.run_migrations()\n"
            "else:\n    with sa.create_engine(url).connect() as connection:\n"
            "        context.configure(connection=connection)\n"
            "        with context.begin_transaction():\n            context.run_migrations()\n"
        )

    def files(self, number: int) -> Mapping[str, str]:
        before = f"'rev{number - 1}'" if number > 1 else "None"
        text = (
            f"from alembic import op\nimport sqlalchemy as sa\nrevision = 'rev{number}'\ndown_revision = {before}\n"
            f"def upgrade():\n    {self.code[number]}\ndef downgrade():\n    {self.back[number]}\n"
        )
        return {f"alembic/versions/rev{number}_{TITLES[number]}.py": text}

    def _alembic(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "alembic", *words)

    def apply(self) -> None:
        self._alembic("upgrade", "head")

    def count_pending(self) -> int:
        current = re.search(r"^rev(\d)", self._alembic("current"), re.MULTILINE)
        return len(list((self.folder / "alembic/versions").glob("*.py"))) - int(current[1] if current else 0)


class DjangoDriver(PythonDriver):
    name, program, table = "django", "django", "django_migrations"
    options = ("--tool-command", f"{sys.executable} manage.py")
    volatile = ("id", "applied")
    order_by = "app, name"
    code: ClassVar = {
        1: "m.CreateModel('Note', [('id', f.BigIntegerField(primary_key=True)), ('body', f.TextField(null=True)),\n"
        "        ('user', f.BigIntegerField(null=True))]), m.CreateModel('Label', [('id',\n"
        "        f.BigAutoField(primary_key=True)), ('name', f.TextField())]),",
        2: "m.AddField('Note', 'kind', f.TextField(null=True)),",
        3: "m.AddIndex('Note', f.Index(fields=['user'], name='notes_user_idx')),\n"
        "        m.RunSQL(\"INSERT INTO shop_label (name) VALUES ('x')\",\n"
        "            \"DELETE FROM shop_label WHERE name = 'x'\"),",
        4: "m.AlterField('Note', 'user', f.BigIntegerField()), m.CreateModel('Tag', [('id',\n"
        "        f.BigAutoField(primary_key=True)), ('note', f.ForeignKey('shop.note', f.CASCADE))]),\n"
        "        m.AddField('Note', 'stars', f.IntegerField(default=3)),",
        5: "m.AddField('Tag', 'name', f.TextField(null=True)),",
    }

    def prepare(self) -> None:
        (self.folder / "shop/migrations").mkdir(parents=True)
        for package in ("shop", "shop/migrations"):
            (self.folder / package / "__init__.py").write_text("")
        (self.folder / "settings.py").write_text(
            "import os\nfrom urllib.parse import urlsplit\nu = urlsplit(os.environ['DATABASE_URL'])\n"
            "INSTALLED_APPS = ['django.contrib.contenttypes', 'shop']\nSECRET_KEY = 'x'\nUSE_TZ = True\n"
            "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n"
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'NAME': u.path[1:],\n"
            "    'HOST': u.hostname, 'PORT': u.port, 'USER': u.username, 'PASSWORD': u.password}}\n"
        )
        (self.folder / "manage.py").write_text(
            "import os, sys\nfrom django.core.management import execute_from_command_line\n"
            "os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\nexecute_from_command_line(sys.argv)\n"
        )

    def files(self, number: int) -> Mapping[str, str]:
        before = f"[('shop', '000{number - 1}_{TITLES[number - 1]}')]" if number > 1 else "[]"
        text = (
            "from django.db import migrations as m, models as f\n\nclass Migration(m.Migration):\n"
            f"    dependencies = {before}\n    operations = [\n        {self.code[number]}\n    ]\n"
        )
        return {f"shop/migrations/000{number}_{TITLES[number]}.py": text}

    def _manage(self, *words: str) -> str:
        return self.run(sys.executable, "manage.py", *words)

    def apply(self) -> None:
        self._manage("migrate", "--verbosity", "0")

    def count_pending(self) -> int:
        return self._manage("showmigrations", "--plan").count("[ ]")


class RailsDriver(ToolDriver):
    """Active Record as ``rails db:migrate`` and ``db:migrate:status`` call it, without a Rails application."""

    name, program, table = "rails", "ruby", "schema_migrations"
    script = """
        require "uri"; require "active_record"
        u = URI(ENV["DATABASE_URL"])
        ActiveRecord::Base.establish_connection(adapter: "postgresql", host: u.host, port: u.port, username: u.user,
          password: u.password, database: u.path[1..])
        ActiveRecord::Migration.verbose = false
        context = ActiveRecord::MigrationContext.new("db/migrate", ActiveRecord::SchemaMigration)
        ARGV[0] == "up" ? context.migrate : context.migrations_status.each { |state, id, _| puts "#{state} #{id}" }
    """

    @classmethod
    def why_missing(cls) -> str:
        if missing := super().why_missing():
            return missing
        ended = subprocess.run(
            ["ruby", "-e", "require 'active_record'; require 'pg'"], capture_output=True, check=False
        )
        return "the gems activerecord and pg are not installed" if ended.returncode else ""

    def files(self, number: int) -> Mapping[str, str]:
        stem = f"db/migrate/2024010100000{number}_{TITLES[number]}"
        name = "".join(word.title() for word in TITLES[number].split("_"))
        code = (
            f"class {name} < ActiveRecord::Migration[6.1]\n"
            f"  def up; execute File.read(__FILE__.sub(/rb$/, 'up.sql')); end\n"
            f"  def down; execute File.read(__FILE__.sub(/rb$/, 'down.sql')); end\nend\n"
        )
        return {f"{stem}.rb": code, f"{stem}.up.sql": UP[number], f"{stem}.down.sql": DOWN[number]}

    def apply(self) -> None:
        self.run("ruby", "-e", self.script, "up")

    def count_pending(self) -> int:
        return sum(line.startswith("down ") for line in self.run("ruby", "-e", self.script, "status").splitlines())


DRIVERS: tuple[type[ToolDriver], ...] = (
    AlembicDriver,
    DjangoDriver,
    FlywayDriver,
    GolangMigrateDriver,
    GooseDriver,
    DbmateDriver,
    SqlxDriver,
    PrismaDriver,
    RailsDriver,
)


def select_rows(driver: ToolDriver) -> str:
    """A query of the version table without the columns that differ from run to run."""
    columns = ", ".join(map(repr, driver.volatile))
    return f"SELECT (to_jsonb(t) - ARRAY[{columns}]::text[])::text FROM {driver.rows} t ORDER BY {driver.order_by}"


def parse_rows(rows: list[Any]) -> list[Any]:
    return [json.loads(row[0]) for row in rows]

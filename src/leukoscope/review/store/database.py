import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from leukoscope.common.errors import InputError

_MIGRATIONS = Path(__file__).with_name("migrations")
_PATIENCE = 10
"""Seconds to wait for a connection to PostgreSQL."""
_MIGRATION_LOCK = 5_1749_2026  # any number that nobody else locks


class Store:
    """The database of a review: short transactions for reading, and for writing, on SQLite or PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        sqlite = engine.dialect.name == "sqlite"
        # SQLite has one writer: threads that queue here do not poll for its file lock.
        self._turn = threading.Lock() if sqlite else nullcontext()
        # PostgreSQL would show every query what was committed until then; SQLite shows a transaction one state anyway.
        self._still = engine if sqlite else engine.execution_options(isolation_level="REPEATABLE READ")

    @classmethod
    def open(cls, url: str, *, make: bool = True) -> "Store":
        """Open the database at ``url`` (``sqlite:///FILE``, ``postgresql://...``) and bring its tables up to date.

        Args:
            url: its address.
            make: whether to make a store where there is none.

        Raises:
            InputError: when it cannot be reached, is of another kind, or was made by a newer version; or there is none
                and none is to be made.
        """
        engine = _engine(url)
        if not make and engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
            raise _none_at(url)
        try:
            with engine.connect().execution_options(writes=True) as connection, connection.begin():
                if not make and MigrationContext.configure(connection).get_current_revision() is None:
                    raise _none_at(url)
                _bring_up_to_date(connection, shown(url))
        except DBAPIError as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise InputError(f"{shown(url)}: the store cannot be opened ({reason})") from None
        return cls(engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database, that of its first query, however many it asks."""
        with Session(self._still) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed, and on disk, when the block ends well.

        On PostgreSQL each of its queries sees what others have committed until then: what it read before it had a lock
        would be out of date.
        """
        with self._turn, Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.connection(execution_options={"writes": True})
            yield session


def shown(url: str) -> str:
    """The address of a store as messages show it: without its passwords, whether it is an address or not."""
    masked = re.sub(r"(://[^:/@]*:).*@", r"\1***@", url)
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", masked, flags=re.IGNORECASE)


def _none_at(url: str) -> InputError:
    return InputError(f"{shown(url)}: there is no store; is the address right?")


def _engine(url: str) -> Engine:
    try:
        address = make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        if address.drivername == "postgresql+psycopg":
            # Left to itself it would wait for minutes where nothing answers.
            given = {} if "connect_timeout" in address.query else {"connect_timeout": _PATIENCE}
            return create_engine(address, connect_args=given, pool_size=20, max_overflow=30, pool_pre_ping=True)
        if address.drivername != "sqlite" or address.database in (None, "", ":memory:"):
            raise InputError(f"{shown(url)}: a store is sqlite:///FILE or postgresql://USER@HOST/NAME")
        if address.query:
            raise InputError(f"{shown(url)}: a store is sqlite:///FILE, which takes no options after a question mark")
        engine = create_engine(address, connect_args={"timeout": 30}, pool_size=40, max_overflow=20)
    except (ArgumentError, TypeError, ValueError):
        raise InputError(f"{shown(url)}: a store is sqlite:///FILE or postgresql://USER@HOST/NAME") from None
    except ModuleNotFoundError as error:
        raise InputError(
            f"{shown(url)}: needs {error.name}, which is not installed: pip install 'leukoscope[review]'"
        ) from None
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun below: the driver would begin them late, and never for reading.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes then would fail if another wrote in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _bring_up_to_date(connection: Connection, where: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in known:
        raise InputError(
            f"{where}: the store was made by a newer version of leukoscope (its tables are {found}); "
            "install that version, or give another --store"
        )
    command.upgrade(config, "head")

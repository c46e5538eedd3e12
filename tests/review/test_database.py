import re
import socket

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from leukoscope.common.errors import InputError
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.store.events import label_cells
from leukoscope.review.store.models import Base, CellRow


def test_migrations_make_the_tables_that_the_models_describe(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_store_is_opened_again_as_it_was(url, store, opened):
    again = Store.open(url)
    with again.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM cells")) == len(opened.predicted)
    again.engine.dispose()


def test_a_store_of_a_newer_version_is_refused_in_one_line(url, store):
    with store.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match=r"made by a newer version of leukoscope \(its tables are 9999\)"):
        Store.open(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://somewhere/db", "a store is sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("nonsense", "a store is sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("postgresql+asyncpg://h/db", "a store is sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("postgresql://ann:secret@h:port/db", "^postgresql://ann:.{3}@h:port/db: a store is sqlite:///FILE or"),
        ("postgresql://ann:secret@[::1/db", "a store is sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("postgresql://127.0.0.1/db?words=none", "cannot be opened .invalid connection option"),
        ("sqlite://", "a store is sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("sqlite:///:memory:", "a store is sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("sqlite:///review.db?timeout=soon", "a store is sqlite:///FILE, which takes no options after a question mark"),
        (
            "sqlite:///review.db?foo=bar",
            r"^sqlite:///review\.db\?foo=bar: a store is sqlite:///FILE, which takes no opt",
        ),
        ("sqlite:////etc/hostname", "cannot be opened .file is not a database"),
        ("sqlite:////no/such/folder/review.db", "cannot be opened .unable to open database file"),
        (
            "postgresql://ann@127.0.0.1:1/none?password=secret&sslpassword=secret&connect_timeout=3",
            r"/none\?password=\*{3}&sslpassword=\*{3}&connect_timeout=3: the store cannot be opened",
        ),
        ("postgresql://ann@[::1/db?PASSWORD=secret", r"/db\?PASSWORD=\*{3}: a store is"),
        ("postgresql://ann:se/secret@127.0.0.1:1/none", "ann:.{3}@127.0.0.1:1/none: the store cannot be opened"),
        ("postgresql://ann:secret@127.0.0.1:1/none", "ann:.{3}@127.0.0.1:1/none: the store cannot be opened"),
    ],
)
def test_a_store_that_cannot_be_opened_is_named_without_its_password(url, words):
    with pytest.raises(InputError, match=words) as fault:
        Store.open(url)
    assert "secret" not in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_store_is_not_made_where_one_is_to_be_there(url, tmp_path):
    with pytest.raises(InputError, match=rf"^{re.escape(url)}: there is no store; is the address right\?$"):
        Store.open(url, make=False)
    assert not list(tmp_path.iterdir())
    Store.open(url).engine.dispose()
    Store.open(url, make=False).engine.dispose()


def test_who_reads_sees_one_state_whatever_others_commit_meanwhile(store, opened):
    seen = select(func.count()).select_from(CellRow).where(CellRow.opinions > 0)
    ann = local_reviewer(store, "ann")
    with store.reading() as session:
        assert session.scalar(seen) == 0
        label_cells(store, opened.id, ann, key="key-0001", rows=[0], label=2, source="gallery")
        assert session.scalar(seen) == 0
    with store.reading() as session:
        assert session.scalar(seen) == 1


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr("leukoscope.review.store.database._PATIENCE", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InputError, match=r"cannot be opened \("):
        Store.open(f"postgresql://ann@127.0.0.1:{silent.getsockname()[1]}/db")


@pytest.mark.parametrize("change", ["UPDATE events SET label_to = 1", "DELETE FROM events", "DELETE FROM actions"])
def test_the_database_itself_refuses_to_change_what_people_did(store, opened, change):
    label_cells(store, opened.id, local_reviewer(store, "ann"), key="key-0001", rows=[0], label=2, source="gallery")
    with pytest.raises(DBAPIError, match="never changed"), store.writing() as session:
        session.execute(text(change))


def test_sqlite_writes_ahead_and_waits_for_the_disk(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'review.db'}")
    with store.reading() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2  # FULL

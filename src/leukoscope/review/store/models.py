"""The tables of a review, as SQLAlchemy sees them; ``migrations/`` makes them, and a test holds the two together."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, Integer, MetaData, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# SQLite counts up by itself only in a column that it calls INTEGER.
_Counted = BigInteger().with_variant(Integer, "sqlite")


class Moment(TypeDecorator[datetime]):
    """A time in UTC; SQLite forgets the zone, and gets it back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the zone back."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """All tables; constraints are named alike on every database, so that migrations can find them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, list[list[float]]: JSON, datetime: Moment}  # noqa: RUF012 (SQLAlchemy's way)


class SampleRow(Base):
    """A sample under review. ``fingerprint`` knows it again wherever its folder lies; no path is kept.

    ``seed`` drew the order of ``cells.shuffled``, and with it the audit.
    """

    __tablename__ = "samples"
    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    classes: Mapped[list[str]]
    seed: Mapped[int] = mapped_column(BigInteger)
    n_cells: Mapped[int]
    imported: Mapped[datetime]


class CellRow(Base):
    """One cell: what the classifier said of it, and what people's opinions come to.

    ``gallery`` is the class index that it was called, or -1 where it was set aside. ``opinions`` counts the reviewers
    who hold one; ``label`` is what they agree on, or what a third reader decided, and empty while they disagree.
    ``seen_by`` is the action by which it was first seen, empty while nobody has an opinion of it.
    """

    __tablename__ = "cells"
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"), primary_key=True, autoincrement=False)
    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cell_id: Mapped[str]
    gallery: Mapped[int]
    predicted: Mapped[int]
    doubt: Mapped[float]
    novelty: Mapped[float | None]
    set_aside: Mapped[str]
    shuffled: Mapped[int]
    opinions: Mapped[int] = mapped_column(default=0)
    label: Mapped[int | None]
    seen_by: Mapped[int | None] = mapped_column(_Counted)

    __table_args__ = (
        Index("ix_cells_by_doubt", "sample_id", "gallery", "doubt", "row"),
        Index("ix_cells_by_novelty", "sample_id", "gallery", "novelty", "row"),
        Index("ix_cells_all_by_doubt", "sample_id", "doubt", "row"),
        Index("ix_cells_all_by_novelty", "sample_id", "novelty", "row"),
        Index("ix_cells_by_chance", "sample_id", "gallery", "shuffled", "row"),
        Index("ix_cells_in_order", "sample_id", "shuffled"),
        Index("ix_cells_seen", "sample_id", "opinions", "shuffled"),
    )


class Reviewer(Base):
    """Who labels. Without a password: the local reviewer of a page that only this machine can reach."""

    __tablename__ = "reviewers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)


class Action(Base):
    """One thing a reviewer did, on one cell or many: it is kept for ever, and undone only by another action.

    ``key`` is drawn by the client: a request that is sent twice is done once.
    """

    __tablename__ = "actions"
    id: Mapped[int] = mapped_column(_Counted, primary_key=True)
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"))
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    key: Mapped[str]
    time: Mapped[datetime]
    source: Mapped[str]
    undoes: Mapped[int | None] = mapped_column(ForeignKey("actions.id"), unique=True)

    __table_args__ = (
        UniqueConstraint("reviewer_id", "key"),
        Index("ix_actions_latest", "sample_id", "reviewer_id", "id"),
        Index("ix_actions_of_sample", "sample_id", "id"),
    )


class Event(Base):
    """What an action changed of one cell: from which label to which, empty for none. The database refuses changes."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(_Counted, primary_key=True)
    action_id: Mapped[int] = mapped_column(ForeignKey("actions.id"))
    row: Mapped[int]
    label_from: Mapped[int | None]
    label_to: Mapped[int | None]
    decision: Mapped[bool]
    undoes: Mapped[int | None] = mapped_column(ForeignKey("events.id"))

    __table_args__ = (UniqueConstraint("action_id", "row"), Index("ix_events_of_cell", "row", "action_id"))


class Opinion(Base):
    """The label that a reviewer gives a cell now, derived from the events; ``decision``: given as a third reader."""

    __tablename__ = "opinions"
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"), primary_key=True, autoincrement=False)
    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"), primary_key=True, autoincrement=False)
    decision: Mapped[bool] = mapped_column(primary_key=True)
    label: Mapped[int | None]
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"))


class Signature(Base):
    """A signed sample: ``document`` as it was signed, and the SHA-256 of its canonical JSON."""

    __tablename__ = "signatures"
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"), primary_key=True, autoincrement=False)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    time: Mapped[datetime]
    sha256: Mapped[str]
    document: Mapped[dict[str, Any]]


class LoginSession(Base):
    """A browser that is logged in: only the hash of what its cookie holds is kept."""

    __tablename__ = "sessions"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    csrf: Mapped[str]
    expires: Mapped[datetime]


class LoginAttempt(Base):
    """Somebody tried to log in; too many failures are made to wait."""

    __tablename__ = "login_attempts"
    id: Mapped[int] = mapped_column(_Counted, primary_key=True)
    name: Mapped[str]
    address: Mapped[str]
    time: Mapped[datetime] = mapped_column(index=True)
    succeeded: Mapped[bool] = mapped_column(default=False)


class Gate(Base):
    """A named outline ``[[x, y], ...]`` on the map ``space``, which every sample of one classifier shares."""

    __tablename__ = "gates"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    space: Mapped[str]
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    time: Mapped[datetime]
    outline: Mapped[list[list[float]]]

    __table_args__ = (UniqueConstraint("space", "name"),)

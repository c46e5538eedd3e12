import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from leukoscope import __version__
from leukoscope.review.leukocytes import LeukocyteClasses
from leukoscope.review.opened import Opened
from leukoscope.review.said import State, state_of
from leukoscope.review.standing import Standing, standing
from leukoscope.review.store.database import Store
from leukoscope.review.store.events import Conflict
from leukoscope.review.store.models import Action, CellRow, Event, Reviewer, SampleRow, Signature


@dataclass(frozen=True)
class Check:
    """Whether the store held what was signed, as looked at ``time``; ``of`` tells the signature and the actions."""

    of: tuple[str, State]
    holds: bool
    time: datetime


def sign(store: Store, opened: Opened, reviewer_id: int, *, unproved: bool = False) -> Signature:
    """Freeze a sample: from here on its labels cannot change, and the hash tells whether anything did.

    Args:
        store: the store.
        opened: the sample.
        reviewer_id: who signs.
        unproved: sign although the audit has not brought every share to the precision asked for; the document says so.

    Raises:
        Conflict: when it is signed already, a dispute is open, or the audit is too short and ``unproved`` not given.
    """
    with store.writing() as session:
        session.scalar(select(SampleRow.id).where(SampleRow.id == opened.id).with_for_update())
        if session.get(Signature, opened.id) is not None:
            raise Conflict(f"{opened.name} is signed already")
        now = standing(session, opened)
        if now.disputed:
            raise Conflict(f"{opened.name}: {now.disputed} cells are disputed; a third reader must decide them first")
        if now.needed and not unproved:
            raise Conflict(
                f"{opened.name}: review {now.needed} more cells of the audit to sign at "
                f"+-{100 * opened.precision:g} points, or sign it as unproved"
            )
        reviewer = session.get_one(Reviewer, reviewer_id)
        time = datetime.now(UTC).replace(microsecond=0)
        document = _document(session, opened, now, reviewer.name, time)
        signature = Signature(
            sample_id=opened.id, reviewer_id=reviewer_id, time=time, sha256=digest_of(document), document=document
        )
        session.add(signature)
        return signature


def holds(session: Session, signature: Signature) -> bool:
    """Whether document, labels and history of a signed sample are those that were signed."""
    document = signature.document
    return (
        digest_of(document) == signature.sha256
        and document["labels_sha256"] == _labels_digest(session, signature.sample_id)
        and document["history_sha256"] == _history_digest(session, signature.sample_id)
    )


def checked(session: Session, signature: Signature, last: Check | None = None) -> Check:
    """Whether a signed sample holds: by the ``last`` check where it is of the same state, for all labels are hashed.

    No change through the page escapes that; one behind it is found by a check without ``last``.
    """
    of = signature.sha256, state_of(session, signature.sample_id)
    if last is not None and last.of == of:
        return last
    return Check(of, holds(session, signature), datetime.now(UTC))


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``document``: keys sorted, no spaces, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _document(session: Session, opened: Opened, now: Standing, signed_by: str, time: datetime) -> dict[str, Any]:
    sample = session.get_one(SampleRow, opened.id)
    count = now.audited
    return {
        "sample": sample.name,
        "sample_fingerprint": sample.fingerprint,
        "pixels_fingerprint": opened.sample.info.pixels_fingerprint,
        "encoder_fingerprint": opened.sample.info.encoder_fingerprint,
        "software": f"leukoscope {__version__}",
        "signed_by": signed_by,
        "time": time.isoformat(),
        "cells": sample.n_cells,
        "counted": count.n,
        "set_aside": sample.n_cells - count.n,
        "reviewed": now.reviewed,
        "audited": count.audited,
        "audit_seed": sample.seed,
        "half_width": now.half_width,
        "precision": opened.precision,
        "proved": now.needed == 0,
        "none_of_these": int(now.current[-1]),
        "leukocytes": now.leukocytes.n,
        "assumed_leukocytes": list(LeukocyteClasses.of(opened.sample).assumed),
        "differential": {
            name: {
                "called": int(now.raw[k]),
                "as_reviewed": int(now.current[k]),
                "proportion": each.proportion,
                "composition": list(each.composition) if each.composition else None,
                "patient": list(each.patient) if each.patient else None,
                **now.leukocytes.document(k),
            }
            for k, (name, each) in enumerate(zip(opened.classes, count.classes, strict=True))
        },
        "agreement": asdict(now.agreement),
        "labels_sha256": _labels_digest(session, opened.id),
        "history_sha256": _history_digest(session, opened.id),
    }


def _labels_digest(session: Session, sample_id: int) -> str:
    """Over every cell in order: what it was called, and what people call it."""
    columns = (CellRow.cell_id, CellRow.gallery, CellRow.predicted, CellRow.label)
    wanted = select(*columns).where(CellRow.sample_id == sample_id).order_by(CellRow.row)
    return _digest(session.execute(wanted.execution_options(yield_per=10_000)))


def _history_digest(session: Session, sample_id: int) -> str:
    """Over everything that anybody did, in order."""
    columns = (Action.id, Reviewer.name, Action.source, Event.row, Event.label_from, Event.label_to, Event.decision)
    wanted = (
        select(*columns, Action.time)
        .join(Action, Action.id == Event.action_id)
        .join(Reviewer, Reviewer.id == Action.reviewer_id)
        .where(Action.sample_id == sample_id)
        .order_by(Event.id)
    )
    found = session.execute(wanted.execution_options(yield_per=10_000))
    return _digest((*row[:-1], row[-1].astimezone(UTC).isoformat()) for row in found)


def _digest(rows: Iterable[Iterable[object]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(tuple(row)).encode() + b"\n")
    return digest.hexdigest()

"""What every page needs: the store, the samples at hand, and who is asking."""

import secrets
import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Form, Header, HTTPException, Path, Request
from sqlalchemy.orm import Session

from leukoscope.review.learning import Learned, learn_from_review
from leukoscope.review.opened import Opened
from leukoscope.review.said import Said, State, state_of
from leukoscope.review.signing import Check, checked
from leukoscope.review.standing import Standing, standing
from leukoscope.review.store.accounts import Visitor, visitor
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import Reviewer, Signature

COOKIE = "leukoscope"


class LoginNeeded(Exception):
    """Nobody is logged in."""


@dataclass(frozen=True)
class Desk:
    """Where a server works: ``samples`` by their ids in the store.

    ``local`` is the one reviewer of a page that only this machine can reach, None where people log in. ``blind`` hides
    what the classifier and other people say, whatever a reviewer chooses. ``learned`` holds the last refit of a sample;
    ``learning`` is held by who fits or keeps one.
    """

    store: Store
    samples: dict[int, Opened]
    local: Visitor | None
    blind: bool = False
    learned: dict[int, Learned] = field(default_factory=dict)
    learning: threading.Lock = field(default_factory=threading.Lock)
    _standings: dict[int, tuple[Said, Standing]] = field(default_factory=dict)
    _checks: dict[int, Check] = field(default_factory=dict)

    def standing(self, session: Session, sample_id: int) -> Standing:
        """How far the review of a sample has come, as ``session`` sees it; computed once for each state."""
        held = self._standings.get(sample_id)
        if held is None:
            said = Said.read(session, sample_id, len(self.samples[sample_id].predicted))
        else:
            said = held[0].brought_up(session, sample_id)
        if held is None or said is not held[0]:
            held = said, standing(session, self.samples[sample_id], said)
            self._standings[sample_id] = held
        return held[1]

    def check(self, session: Session, signature: Signature, *, anew: bool = False) -> Check:
        """Whether the store holds what was signed; looked at once for each state, or ``anew``."""
        last = None if anew else self._checks.get(signature.sample_id)
        found = self._checks[signature.sample_id] = checked(session, signature, last)
        return found

    def learn(self, sample_id: int) -> Learned:
        """Fit the head of a sample anew, unless somebody has with the labels as they are now; one fit at a time.

        Raises:
            InputError: as :func:`~leukoscope.review.learning.learn_from_review`.
        """
        with self.learning:
            held = self.learned.get(sample_id)
            if held is None or held.state != self.state(sample_id):
                held = self.learned[sample_id] = learn_from_review(self.store, self.samples[sample_id])
            return held

    def state(self, sample_id: int) -> State:
        """Which actions on a sample there are now."""
        with self.store.reading() as session:
            return state_of(session, sample_id)


def local_visitor(store: Store, reviewer_id: int) -> Visitor:
    """The one reviewer of a page that only this machine can reach; the token changes with every start."""
    with store.reading() as session:
        reviewer = session.get_one(Reviewer, reviewer_id)
        return Visitor(reviewer.id, reviewer.name, reviewer.role, secrets.token_urlsafe(32), logged_in=False)


def desk_of(request: Request) -> Desk:
    """The desk of the application."""
    desk: Desk = request.app.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(desk_of)]
Row = Annotated[int, Path(ge=0, lt=2**31)]
"""A cell of a sample, or the number of something else, in an address."""


def reader(request: Request, desk: AtDesk) -> Visitor:
    """Who is asking.

    Raises:
        LoginNeeded: when it is nobody that the store knows.
    """
    token = request.cookies.get(COOKIE)
    found = desk.local or (visitor(desk.store, token) if token else None)
    if found is None:
        raise LoginNeeded
    return found


Reader = Annotated[Visitor, Depends(reader)]


def _refuse_forged(given: str, who: Visitor) -> Visitor:
    if not secrets.compare_digest(given.encode(), who.csrf.encode()):
        raise HTTPException(403, "this page is out of date, or was not asked for by you; load it again")
    return who


def by_form(who: Reader, csrf: Annotated[str, Form()] = "") -> Visitor:
    """Who sends a form, which must hold the token of a page of ours."""
    return _refuse_forged(csrf, who)


def by_script(who: Reader, x_csrf_token: Annotated[str, Header()] = "") -> Visitor:
    """Who sends JSON, with the token of a page of ours in its header."""
    return _refuse_forged(x_csrf_token, who)


def sample_at(sample_id: int, desk: AtDesk, _who: Reader) -> Opened:
    """The sample of an address."""
    if sample_id not in desk.samples:
        raise HTTPException(404, f"sample {sample_id} is not open here; start leukoscope review with its folder")
    return desk.samples[sample_id]


def refuse_blind(desk: AtDesk, _who: Reader) -> None:
    """Refuse, in a blind review, a page that would tell what cells were called."""
    if desk.blind:
        raise HTTPException(403, "this review is blind, and the page would tell what cells were called")


FormAuthor = Annotated[Visitor, Depends(by_form)]
ScriptAuthor = Annotated[Visitor, Depends(by_script)]
AtSample = Annotated[Opened, Depends(sample_at)]

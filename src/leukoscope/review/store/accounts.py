import hashlib
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from leukoscope.common.errors import InputError, LeukoscopeError
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import LoginAttempt, LoginSession, Reviewer

Role = Literal["reviewer", "admin"]
SESSION = timedelta(hours=12)
FEWEST_CHARACTERS = 12
WINDOW = timedelta(minutes=15)
MOST_FAILURES = 5
"""Of one name from one address within the window; then both wait."""
MOST_FAILURES_OF_ADDRESS = 30
MOST_FAILURES_OF_NAME = 50
_ATTEMPTS_LOCK = 5_1749_2027  # any number that nobody else locks
_HASHER = PasswordHasher()
# Each takes 64 MiB: many at once would be a way to exhaust the machine.
_HASHING = threading.BoundedSemaphore(2)
# Verified where there is no such name, so that the time taken does not tell which names there are.
_NOBODY = _HASHER.hash(secrets.token_hex())


class LoginRefused(LeukoscopeError):
    """The name or the password is wrong; which of them is not told."""


class TooManyAttempts(LeukoscopeError):
    """Too many failures in a short time."""


@dataclass(frozen=True)
class Visitor:
    """Who a request comes from; ``csrf`` must come back with everything that changes something.

    ``logged_in`` is false for the local reviewer of a page that only this machine can reach.
    """

    reviewer_id: int
    name: str
    role: str
    csrf: str
    logged_in: bool = True


def add_reviewer(store: Store, name: str, role: str, password: str) -> None:
    """Make an account, or give one that there is another role and password; its sessions end.

    Raises:
        InputError: when the role is unknown, or name or password will not do.
    """
    if role not in get_args(Role):
        raise InputError(f"--role {role}: choose from {', '.join(get_args(Role))}")
    _refuse_name(name)
    if len(password) < FEWEST_CHARACTERS:
        raise InputError(f"the password of {name} needs at least {FEWEST_CHARACTERS} characters")
    with store.writing() as session:
        reviewer = session.scalar(select(Reviewer).where(Reviewer.name == name)) or Reviewer(name=name)
        reviewer.role, reviewer.password, reviewer.active = role, _HASHER.hash(password), True
        session.add(reviewer)
        session.flush()
        session.execute(delete(LoginSession).where(LoginSession.reviewer_id == reviewer.id))


def close_account(store: Store, name: str) -> None:
    """Let nobody log in as ``name`` any more; what they did stays.

    Raises:
        InputError: when there is no such account.
    """
    with store.writing() as session:
        reviewer = session.scalar(select(Reviewer).where(Reviewer.name == name, Reviewer.password.is_not(None)))
        if reviewer is None:
            raise InputError(f"--close-user {name}: there is no such account")
        reviewer.active = False
        session.execute(delete(LoginSession).where(LoginSession.reviewer_id == reviewer.id))


def has_accounts(store: Store) -> bool:
    """Whether anybody ever had an account: from then on nobody comes in without one."""
    with store.reading() as session:
        wanted = select(Reviewer.id).where(Reviewer.password.is_not(None)).limit(1)
        return session.scalar(wanted) is not None


def local_reviewer(store: Store, name: str) -> int:
    """The id of the reviewer ``name`` of a page that only this machine can reach; made where there is none.

    Raises:
        InputError: when the name will not do.
    """
    _refuse_name(name)
    with store.writing() as session:
        found = session.scalar(select(Reviewer).where(Reviewer.name == name))
        if found is None:
            found = Reviewer(name=name, role="admin", password=None)
            session.add(found)
            session.flush()
        return found.id


def _refuse_name(name: str) -> None:
    if not name.strip() or name != name.strip() or len(name) > 80:
        raise InputError(f"{name!r}: a reviewer's name has 1 to 80 characters and no space at its ends")


def log_in(store: Store, name: str, password: str, address: str) -> str:
    """The token of a new session.

    Raises:
        LoginRefused: when name and password do not fit.
        TooManyAttempts: after too many failures.
    """
    attempt = _attempted(store, name, address)
    with store.reading() as session:
        reviewer = session.scalar(select(Reviewer).where(Reviewer.name == name, Reviewer.active))
    stored = reviewer.password if reviewer is not None else None
    if not _fits(stored or _NOBODY, password) or reviewer is None or stored is None:
        raise LoginRefused("name or password is wrong")
    with store.writing() as session:
        session.get_one(LoginAttempt, attempt).succeeded = True
        return _new_session(session, reviewer.id)


def visitor(store: Store, token: str) -> Visitor | None:
    """Whose session ``token`` is; None when it is nobody's, or over."""
    with store.reading() as session:
        found = session.execute(
            select(LoginSession, Reviewer)
            .join(Reviewer, Reviewer.id == LoginSession.reviewer_id)
            .where(LoginSession.token_sha256 == _digest(token), LoginSession.expires > _now(), Reviewer.active)
        ).first()
    if found is None:
        return None
    held, reviewer = found
    return Visitor(reviewer.id, reviewer.name, reviewer.role, held.csrf)


def log_out(store: Store, token: str) -> None:
    """End a session."""
    with store.writing() as session:
        session.execute(delete(LoginSession).where(LoginSession.token_sha256 == _digest(token)))


def password_fits(store: Store, reviewer_id: int, password: str, address: str) -> bool:
    """Whether the password is that of the reviewer; for what asks for it once more.

    Raises:
        TooManyAttempts: after too many failures, here and at the login.
    """
    with store.reading() as session:
        reviewer = session.get_one(Reviewer, reviewer_id)
        name, stored = reviewer.name, reviewer.password
    attempt = _attempted(store, name, address)
    fits = stored is not None and _fits(stored, password)
    if fits:
        with store.writing() as session:
            session.get_one(LoginAttempt, attempt).succeeded = True
    return fits


def _attempted(store: Store, name: str, address: str) -> int:
    """Count the attempt before it is judged, so that many at once are counted too."""
    since = _now() - WINDOW
    with store.writing() as session:
        # SQLite has one writer; on PostgreSQL those who try at once would not see each other's attempts.
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ATTEMPTS_LOCK})
        session.execute(delete(LoginAttempt).where(LoginAttempt.time < since - WINDOW))
        of_name, of_address = LoginAttempt.name == name, LoginAttempt.address == address
        limits = (
            ((of_name, of_address), MOST_FAILURES),
            ((of_address,), MOST_FAILURES_OF_ADDRESS),
            ((of_name,), MOST_FAILURES_OF_NAME),
        )
        for which, most in limits:
            failed = (LoginAttempt.time >= since, LoginAttempt.succeeded.is_(False))
            if session.scalars(select(func.count(LoginAttempt.id)).where(*which, *failed)).one() >= most:
                raise TooManyAttempts(f"too many failed attempts; wait {WINDOW.seconds // 60} minutes")
        attempt = LoginAttempt(name=name, address=address, time=_now())
        session.add(attempt)
        session.flush()
        return attempt.id


def _new_session(session: Session, reviewer_id: int) -> str:
    token = secrets.token_urlsafe(32)
    session.execute(delete(LoginSession).where(LoginSession.expires < _now()))
    session.add(
        LoginSession(
            token_sha256=_digest(token), reviewer_id=reviewer_id, csrf=secrets.token_urlsafe(32),
            expires=_now() + SESSION,
        )
    )  # fmt: skip
    return token


def _fits(stored: str, password: str) -> bool:
    with _HASHING:
        try:
            return _HASHER.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)

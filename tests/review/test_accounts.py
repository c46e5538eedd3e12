from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from leukoscope.common.errors import InputError
from leukoscope.review.store.accounts import (
    MOST_FAILURES,
    LoginRefused,
    TooManyAttempts,
    add_reviewer,
    close_account,
    has_accounts,
    local_reviewer,
    log_in,
    log_out,
    visitor,
)
from leukoscope.review.store.models import LoginAttempt, LoginSession, Reviewer

PASSWORD = "correct horse battery"


@pytest.fixture
def ann(store) -> None:
    add_reviewer(store, "ann", "admin", PASSWORD)


def test_a_session_belongs_to_who_logged_in_until_they_log_out(store, ann):
    token = log_in(store, "ann", PASSWORD, "10.0.0.1")
    who = visitor(store, token)
    assert (who.name, who.role) == ("ann", "admin")
    assert visitor(store, token[:-1]) is None
    log_out(store, token)
    assert visitor(store, token) is None


def test_neither_password_nor_token_is_kept(store, ann):
    token = log_in(store, "ann", PASSWORD, "10.0.0.1")
    with store.reading() as session:
        assert session.scalar(select(Reviewer.password)).startswith("$argon2id$")
        assert token not in session.scalar(select(LoginSession.token_sha256))


def test_a_session_ends_by_itself_and_when_the_account_changes(store, ann):
    from datetime import UTC, datetime

    token = log_in(store, "ann", PASSWORD, "10.0.0.1")
    with store.writing() as session:
        session.execute(update(LoginSession).values(expires=datetime(2020, 1, 1, tzinfo=UTC)))
    assert visitor(store, token) is None
    token = log_in(store, "ann", PASSWORD, "10.0.0.1")
    add_reviewer(store, "ann", "reviewer", "another long password")
    assert visitor(store, token) is None


@pytest.mark.parametrize("name", ["ann", "nobody", "local"])
def test_a_wrong_name_and_a_wrong_password_sound_alike(store, ann, name):
    local_reviewer(store, "local")
    with pytest.raises(LoginRefused, match="name or password is wrong"):
        log_in(store, name, "wrong", "10.0.0.1")


def test_failures_make_who_failed_wait_and_nobody_else(store, ann):
    for _ in range(MOST_FAILURES):
        with pytest.raises(LoginRefused):
            log_in(store, "ann", "wrong", "10.0.0.9")
    with pytest.raises(TooManyAttempts, match="too many failed attempts; wait 15 minutes"):
        log_in(store, "ann", PASSWORD, "10.0.0.9")
    assert log_in(store, "ann", PASSWORD, "10.0.0.1")
    with store.writing() as session:
        from datetime import timedelta

        for attempt in session.scalars(select(LoginAttempt)):
            attempt.time -= timedelta(minutes=16)
    assert log_in(store, "ann", PASSWORD, "10.0.0.9")


def test_many_attempts_at_once_are_no_more_than_one_after_another(store, ann):
    def attempt(_: int) -> str:
        with pytest.raises((LoginRefused, TooManyAttempts)) as refused:
            log_in(store, "ann", "wrong", "10.0.0.9")
        return refused.type.__name__

    with ThreadPoolExecutor(16) as pool:
        told = Counter(pool.map(attempt, range(32)))
    assert told == {"LoginRefused": MOST_FAILURES, "TooManyAttempts": 32 - MOST_FAILURES}


@pytest.mark.parametrize(
    ("name", "role", "password", "words"),
    [
        ("bob", "owner", PASSWORD, "--role owner: choose from reviewer, admin"),
        ("bob", "reviewer", "short", "the password of bob needs at least 12 characters"),
        (" bob", "reviewer", PASSWORD, "' bob': a reviewer's name has 1 to 80 characters"),
    ],
)
def test_accounts_that_will_not_do_are_refused(store, name, role, password, words):
    with pytest.raises(InputError, match=words):
        add_reviewer(store, name, role, password)
    assert not has_accounts(store)


@pytest.mark.parametrize("name", ["", "  ", "ann ", "a" * 81])
def test_a_local_reviewer_has_a_name_too(store, name):
    with pytest.raises(InputError, match=f"^'{name}': a reviewer's name has 1 to 80 characters"):
        local_reviewer(store, name)


def test_a_closed_account_lets_nobody_in_and_opens_no_other_way(store, ann):
    token = log_in(store, "ann", PASSWORD, "10.0.0.1")
    close_account(store, "ann")
    assert visitor(store, token) is None
    with pytest.raises(LoginRefused):
        log_in(store, "ann", PASSWORD, "10.0.0.1")
    assert has_accounts(store)
    with pytest.raises(InputError, match="--close-user bob: there is no such account"):
        close_account(store, "bob")

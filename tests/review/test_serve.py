import os
import re

import httpx
import pytest
from sqlalchemy import select

from leukoscope.common.errors import InputError
from leukoscope.review.serve import open_desk
from leukoscope.review.store.accounts import MOST_FAILURES, add_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import LoginAttempt
from leukoscope.review.web.desk import Desk

from .conftest import answering

PASSWORD = "correct horse battery"


@pytest.fixture
def desk(run, tmp_path) -> Desk:
    """Of one local reviewer."""
    return open_desk(Store.open(f"sqlite:///{tmp_path / 'review.db'}"), [run], reviewer="ann")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_a_page_answers_by_the_loopback_address_that_it_listens_at_and_by_no_other_name(desk, host):
    with answering(desk, host) as address:
        assert httpx.get(address).status_code == 200
        assert httpx.get(address, headers={"Host": "127.0.0.3"}).status_code == 421
        assert httpx.get(address, headers={"Host": "rebound.example"}).status_code == 421


@pytest.fixture
def laboratory(run, tmp_path) -> Desk:
    """Where people log in."""
    store = Store.open(f"sqlite:///{tmp_path / 'laboratory.db'}")
    add_reviewer(store, "ann", "admin", PASSWORD)
    return open_desk(store, [run])


def log_in(address: str, password: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{address}/login", data={"name": "ann", "password": password}, headers=headers)


@pytest.mark.parametrize("proxy", [None, "10.0.0.5"])
def test_who_is_no_proxy_gains_nothing_by_saying_where_it_comes_from(laboratory, proxy):
    with answering(laboratory, proxy=proxy) as address:
        told = [{"X-Forwarded-For": f"203.0.113.{i}", "X-Forwarded-Proto": "https"} for i in range(MOST_FAILURES + 1)]
        answers = [log_in(address, "wrong", **each) for each in told]
    assert [answer.status_code for answer in answers] == [403] * MOST_FAILURES + [429]
    with laboratory.store.reading() as session:
        assert set(session.scalars(select(LoginAttempt.address))) == {"127.0.0.1"}


def test_behind_a_proxy_who_failed_waits_and_nobody_else(laboratory):
    with answering(laboratory, proxy="127.0.0.1") as address:
        # What the visitor says comes first, what the proxy has seen last.
        for i in range(MOST_FAILURES):
            log_in(address, "wrong", **{"X-Forwarded-For": f"10.9.9.{i}, 203.0.113.7"})
        assert log_in(address, PASSWORD, **{"X-Forwarded-For": "203.0.113.7"}).status_code == 429
        other = log_in(address, PASSWORD, **{"X-Forwarded-For": "203.0.113.8", "X-Forwarded-Proto": "https"})
    assert other.status_code == 303
    assert "secure" in other.headers["set-cookie"].lower()


@pytest.mark.parametrize("proxy", ["*", "10.0.0.0/8", "proxy.example", ""])
def test_a_proxy_is_one_address(laboratory, proxy):
    with pytest.raises(InputError, match=f"^--proxy {re.escape(proxy)}: is no address; give the one that the proxy"):
        open_desk(laboratory.store, [], proxy=proxy)


def test_through_a_proxy_others_come_only_by_accounts(desk):
    with pytest.raises(InputError, match=r"--proxy 127\.0\.0\.1: others could reach this page, and nobody has"):
        open_desk(desk.store, [], proxy="127.0.0.1")


def test_a_user_whom_the_system_does_not_know_is_asked_for(desk, monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_000)
    with pytest.raises(InputError, match=r"^--reviewer NAME: say who labels; this system has no name"):
        open_desk(desk.store, [])

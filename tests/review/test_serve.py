import httpx
import pytest

from leukoscope.review.serve import open_desk
from leukoscope.review.store.database import Store
from leukoscope.review.web.desk import Desk

from .conftest import answering


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

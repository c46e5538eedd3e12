import getpass
import ipaddress
import logging
import socket
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from leukoscope.common.errors import InputError
from leukoscope.differential.sample import Sample
from leukoscope.review.attention import Attention
from leukoscope.review.opened import PRECISION, Opened
from leukoscope.review.store.accounts import has_accounts, local_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.web.app import create_app
from leukoscope.review.web.desk import Desk, local_visitor
from leukoscope.review.web.security import LOOPBACK


def open_desk(
    store: Store,
    runs: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    proxy: str | None = None,
    reviewer: str | None = None,
    blind: bool = False,
    precision: float = PRECISION,
    attention: Attention | None = None,
) -> Desk:
    """Open samples for review, by one local reviewer or by those who have accounts.

    Args:
        store: the store.
        runs: folders that ``leukoscope classify`` made.
        host: the address that will be listened at; any but loopback takes accounts.
        proxy: the address of the proxy that hands on the requests of others, which takes accounts too.
        reviewer: the local reviewer; by default as the system calls the user.
        blind: hide from everybody what the classifier and others say.
        precision: the half width to which an audit must know every share (0.02: two points).
        attention: of a model of patients, by which galleries can be sorted.

    Raises:
        InputError: when a sample cannot be opened, ``attention`` is of no cell of any, ``proxy`` is no address,
            accounts are needed and there are none, or there is no ``reviewer`` and the system does not know its user.
    """
    accounts = has_accounts(store)
    if proxy is not None and not _is_address(proxy):
        raise InputError(f"--proxy {proxy}: is no address; give the one that the proxy asks from, such as 10.0.0.5")
    if not accounts and not (is_loopback(host) and proxy is None):
        asked = f"--host {host}" if proxy is None else f"--proxy {proxy}"
        raise InputError(
            f"{asked}: others could reach this page, and nobody has an account; make one with "
            "'leukoscope review --store URL --add-user NAME --role admin'"
        )
    if accounts and reviewer is not None:
        raise InputError(f"--reviewer {reviewer}: this store has accounts; log in on the page")
    samples = [Opened.of(store, Sample.open(run), precision=precision, attention=attention) for run in runs]
    if attention is not None and all(sample.attention is None for sample in samples):
        raise InputError(f"--attention: {attention.encoder}, {attention.head} looked at no cell of these samples")
    local = None if accounts else local_visitor(store, local_reviewer(store, reviewer or _user()))
    return Desk(store, {sample.id: sample for sample in samples}, local, blind)


def _user() -> str:
    try:
        return getpass.getuser()
    # Which it is depends on the system and on Python's version.
    except (ImportError, KeyError, OSError):
        raise InputError("--reviewer NAME: say who labels; this system has no name for its user") from None


def serve(desk: Desk, *, host: str, port: int, browser: bool, proxy: str | None = None) -> None:
    """Answer at ``http://host:port/`` until stopped; port 0 takes a free one. For ``proxy`` see :func:`server_of`.

    Raises:
        InputError: when the address cannot be listened at.
    """
    listening = listen(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    print(f"review at {address} (stop with Ctrl+C)", flush=True)
    if browser:
        webbrowser.open(address)
    server_of(desk, host, proxy).run([listening])


def server_of(desk: Desk, host: str, proxy: str | None = None) -> uvicorn.Server:
    """The server of ``desk`` at the address ``host``, by whose name alone it may be asked where nobody logs in.

    What a request says of where it comes from (``X-Forwarded-For``, ``X-Forwarded-Proto``) is believed of those that
    come from the address ``proxy``, and then its last word, which the proxy itself added; of others nothing is.
    """
    app = create_app(desk, hosts=(*LOOPBACK, host.lower()) if desk.local else None)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False,
        # Left to itself uvicorn believes everybody on this machine.
        proxy_headers=proxy is not None, forwarded_allow_ips=[] if proxy is None else [proxy],
    )  # fmt: skip
    return uvicorn.Server(config)


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens at ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at ``host`` and ``port``.

    Raises:
        InputError: when it cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise InputError(f"--host {host} --port {port}: cannot listen there ({reason})") from None
    # asyncio sets this on sockets of its own only; without it answers wait 40 ms for the client's acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening

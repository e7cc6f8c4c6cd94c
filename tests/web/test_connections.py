"""Clients that ask slowly, never, or all at once, at the server that `trueup serve` runs."""

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from tests.web.conftest import Running
from trueup.feedback.store.database import Store
from trueup.web.annotate.app import create_app
from trueup.web.shell.connections import Connection, Doorway
from trueup.web.shell.limits import Limits


@pytest.fixture
def open_server(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(proxies=None, **limits):
            chosen = Limits(rate=1000, burst=1000, **limits)
            store = stack.enter_context(Store(tmp_path / "f.db"))
            made = Running(
                create_app(store, limits=chosen),
                http=partial(Connection, Doorway(chosen, proxies)),
                ws="none",
                timeout_keep_alive=300,
            )
            stack.callback(made.close)
            made.socket = lambda: stack.enter_context(
                socket.create_connection(("127.0.0.1", int(made.url.rsplit(":", 1)[1])), timeout=60)
            )
            return made

        yield make


def end(connection):
    """What it says until it is closed."""
    found = b""
    try:
        while part := connection.recv(4096):
            found += part
    except ConnectionError:
        pass
    return found


ASK = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def asked(connection):
    """One request on a connection that stays open, and its whole reply."""
    connection.sendall(ASK)
    found = b""
    while not found.endswith(b"}"):
        part = connection.recv(4096)
        assert part, found
        found += part
    return b"200 OK" in found


def test_whoever_asks_nothing_is_not_waited_for(open_server):
    server = open_server(head_seconds=0.2)
    silent, slow, again = server.socket(), server.socket(), server.socket()
    slow.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
    assert asked(again)
    again.sendall(b"GET /")
    assert end(silent) == b""
    assert end(slow).startswith(b"HTTP/1.1 408")
    assert end(again) == b"" or b"408" not in end(again)
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_head_that_trickles_in_gets_no_more_time(open_server):
    server = open_server(head_seconds=0.3)
    drip = server.socket()
    drip.sendall(b"GET /healthz HTTP/1.1\r\n")
    drip.settimeout(0.02)
    closed = False
    while not closed:  # each byte would start a timer of idleness anew
        try:
            drip.sendall(b"X")
            closed = not drip.recv(4096)
        except TimeoutError:
            continue
        except ConnectionError:
            closed = True


def test_one_address_has_so_many_and_gets_its_places_back(open_server):
    server = open_server(connections_each=3)
    held = [server.socket() for _ in range(3)]
    assert all(map(asked, held))
    assert end(server.socket()).startswith(b"HTTP/1.1 503")
    held[0].close()
    while httpx.get(f"{server.url}/healthz").status_code != 200:
        pass


def test_where_all_places_are_taken_the_longest_waiting_one_goes(open_server):
    server = open_server(connections=3, head_seconds=300)
    held = [server.socket() for _ in range(3)]
    assert all(map(asked, held))
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert end(held[0]) == b""
    assert asked(held[2])


def test_requests_that_run_ahead_of_their_replies_are_not_hoarded(open_server):
    server = open_server()
    few, many = server.socket(), server.socket()
    few.sendall(ASK * 20)
    found = b""
    while found.count(b"200 OK") < 20 or not found.endswith(b"}"):
        part = few.recv(65536)
        assert part
        found += part
    assert asked(few)
    sent = 0
    with contextlib.suppress(ConnectionError):
        for _ in range(4000):  # 400 MB that would all be held
            many.sendall(ASK * 3000)
            sent += 1
    assert sent < 4000
    assert httpx.get(f"{server.url}/healthz").status_code == 200


class Wire:
    """A transport that notes what happens."""

    def __init__(self, address="192.0.2.1"):
        self.address, self.sent, self.closed = address, b"", False

    def get_extra_info(self, name, default=None):
        return (self.address, 5) if name == "peername" else default

    def write(self, data):
        self.sent += data

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed


@pytest.mark.parametrize(
    ("proxies", "address", "open_to_it"),
    [
        (None, "192.0.2.1", 2),
        ("192.0.2.1", "192.0.2.1", 9),
        ("192.0.2.0/24", "192.0.2.7", 9),
        ("*", "198.51.100.1", 9),
        ("192.0.2.1, /run/proxy.sock", "198.51.100.1", 2),
        ("192.0.2.1", "", 2),
    ],
)
def test_everybody_comes_through_a_proxy_so_it_has_no_limit_of_its_own(proxies, address, open_to_it):
    doorway = Doorway(Limits(connections_each=2, connections=9), proxies)
    assert [doorway.enter(address) for _ in range(12)].count(True) == open_to_it
    doorway.leave(address)
    assert doorway.enter(address)


def test_a_reader_who_takes_nothing_is_dropped():
    import uvicorn
    from uvicorn.server import ServerState

    async def reader():
        config = uvicorn.Config(lambda *_: None, log_level="critical")
        made = Connection(Doorway(Limits(taking_seconds=0.0)), config=config, server_state=ServerState(), app_state={})
        wire = Wire()
        made.connection_made(wire)
        made.pause_writing()
        made.resume_writing()
        await asyncio.sleep(0.05)
        assert not wire.closed
        made.pause_writing()
        await asyncio.sleep(0.05)
        assert wire.closed
        made.connection_lost(None)
        assert not made.doorway.waiting

    with ThreadPoolExecutor(1) as thread:  # the browser tests keep a loop running in this one
        thread.submit(asyncio.run, reader()).result()

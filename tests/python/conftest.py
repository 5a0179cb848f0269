"""Servers for the tests of Python's clients: each on its own port and in its own directory, ended with the test."""

import itertools
import os
import pathlib
import socket
import subprocess
import time

import pytest
import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SHARDIS", ROOT / "target/debug/shardis"))
START_TIMEOUT_S = 60


# Below the ports that the kernel gives to connections: one of those may be taken again before a server has it.
PORTS = range(20_000, 32_000)
# A server may have a port for each shard, behind its own.
PORTS_EACH = 8
# Other processes begin elsewhere.
FIRSTS = itertools.islice(itertools.cycle(PORTS[::PORTS_EACH]), os.getpid() * 37 % len(PORTS), None)


def free_port():
    """The first of some in a row that nobody listens on at the moment, and that no other test here has been given."""
    return next(first for first in itertools.islice(FIRSTS, len(PORTS)) if all(map(is_free, range(first, first + PORTS_EACH))))


def is_free(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def start(directory, *options):
    """A server that answers; the process and its port."""
    port = free_port()
    log = open(directory / "log", "wb")
    process = subprocess.Popen(
        [str((ROOT / BINARY).resolve()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory), *options],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with redis.Redis(port=port) as client:
                if client.info("server")["process_id"] == process.pid:
                    return process, port
        except redis.ConnectionError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the server does not start: {(directory / 'log').read_text()}")
        time.sleep(0.02)


def served(directory, *options):
    process, port = start(directory, *options)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def port(tmp_path):
    """The port of a server with four shards."""
    yield from served(tmp_path, "--shards", "4")


@pytest.fixture
def shard_ports(tmp_path):
    """The port of a server with two shards, each of which has a port of its own as well."""
    yield from served(tmp_path, "--shards", "2", "--shard-ports", "yes")

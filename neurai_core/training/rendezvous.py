"""Processes that train together meet before the runtime connects them: it aborts one that waits in vain for another.

Process 0 listens at the address of the coordinator, and the runtime does so afterwards. Every other one says its number
and how many it expects, and gets one line back: that all are there, or why it cannot join.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import NoReturn

from neurai_core.errors import SettingsError, TrainingError

_ALL_THERE = "all are there"
_SLOW = 5.0  # seconds in which a line has to come
_HINT = "Have all been started, with the same --coordinator and --num-processes and different --process-id?"


def meet(host: str, port: int, processes: int, number: int, patience: float) -> None:
    """Wait until all processes have come.

    Args:
        host: where process 0 listens.
        port: its port.
        processes: how many there are.
        number: of this one.
        patience: seconds to wait.

    Raises:
        SettingsError: process 0 cannot listen there, or this one does not fit to the others.
        TrainingError: the coordinator does not answer, or others do not come.

    >>> meet("127.0.0.1", 0, 1, 0, patience=1.0)
    """
    until = time.monotonic() + patience
    if number == 0:
        _await_others(host, port, processes, until, patience)
    else:
        _come(host, port, processes, number, until, patience)


# ---------------------------------------------------------------------------- process 0


def _await_others(host: str, port: int, processes: int, until: float, patience: float) -> None:
    with ExitStack() as closing:
        listening = closing.enter_context(_listening(host, port))
        there: dict[int, socket.socket] = {}
        while len(there) < processes - 1:
            listening.settimeout(max(0.01, until - time.monotonic()))
            try:
                guest, _ = listening.accept()
            except TimeoutError:
                _give_up(there, processes, patience)
            closing.enter_context(guest)
            number = _admitted(guest, there, processes)
            if number:
                there[number] = guest
        _tell(there.values(), _ALL_THERE)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, reuse_port=False)
    except OSError as error:
        raise SettingsError(
            f"Process 0 cannot listen at {host}:{port}: {_reason(error)}.",
            "Choose another port, or an address of this machine.",
        ) from error


def _admitted(guest: socket.socket, there: dict[int, socket.socket], processes: int) -> int:
    """The number of a process that joins; 0 for one that cannot, which is told why, and for a stranger."""
    name, _, rest = _line(guest).partition(" ")
    number, _, expected = rest.partition(" of ")
    if name != "process" or not (number.isdecimal() and expected.isdecimal()):
        return 0
    if int(expected) != processes:
        reason = f"it expects {expected} processes, and process 0 expects {processes}"
    elif not 0 < int(number) < processes or int(number) in there:
        reason = "another one has this number"
    else:
        return int(number)
    _tell([guest], reason)
    return 0


def _give_up(there: dict[int, socket.socket], processes: int, patience: float) -> NoReturn:
    missing = [number for number in range(1, processes) if number not in there]
    who = f"Process{'es' * (len(missing) > 1)} {', '.join(map(str, missing))} of {processes}"
    said = f"{who} did not come within {patience:g} s"
    _tell(there.values(), said)
    raise TrainingError(f"{said}.", _HINT)


def _tell(guests: Iterable[socket.socket], line: str) -> None:
    for guest in guests:
        with suppress(OSError):
            guest.sendall(f"{line}\n".encode())


# ---------------------------------------------------------------------------- the others


def _come(host: str, port: int, processes: int, number: int, until: float, patience: float) -> None:
    with _connected(host, port, until, patience) as host_of_all:
        with suppress(OSError):
            host_of_all.sendall(f"process {number} of {processes}\n".encode())
        said = _line(host_of_all, max(0.0, until - time.monotonic()) + _SLOW)
    if said == _ALL_THERE:
        return
    if not said:
        raise TrainingError(f"The coordinator {host}:{port} is gone.", "What did process 0 say?")
    error = TrainingError if "did not come" in said else SettingsError
    raise error(f"Process {number} cannot join the others: {said}.", _HINT)


def _connected(host: str, port: int, until: float, patience: float) -> socket.socket:
    reason = "nothing listens there"
    while time.monotonic() < until:
        try:
            return socket.create_connection((host, port), timeout=max(0.01, min(_SLOW, until - time.monotonic())))
        except OSError as error:
            reason = _reason(error)
            time.sleep(min(0.2, patience))
    raise TrainingError(
        f"The coordinator {host}:{port} did not answer within {patience:g} s: {reason}.",
        "Is process 0 running, and is this its address? --join-within waits longer.",
    )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def _line(connection: socket.socket, patience: float = _SLOW) -> str:
    """What the other side says; nothing if it says nothing in time, or is gone."""
    connection.settimeout(patience)
    said = b""
    with suppress(OSError):
        while not said.endswith(b"\n") and len(said) < 200:
            more = connection.recv(200)
            if not more:
                break
            said += more
    return said.decode(errors="replace").strip()

"""How a process joins others that train with it: by the coordinator's address, its number, and how many there are.

JAX's own runtime connects them. Importing this module imports no JAX. Nothing may have used a device before a process
joins.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from neurai_core.errors import SettingsError
from neurai_core.training.rendezvous import meet

AUTO = "auto"
COORDINATOR, PROCESSES, NUMBER = "NEURAI_COORDINATOR", "NEURAI_NUM_PROCESSES", "NEURAI_PROCESS_ID"  # variables
PATIENCE = 300.0  # seconds
_AT_LEAST = 60.0  # seconds for the runtime, once all are there: it aborts the process when they are over
OPEN_TRAFFIC = (
    "The traffic between the processes is neither encrypted nor authenticated: whoever reaches the port can read and "
    "change it. Use a network that you trust."
)
_LEAVING = 5.0  # seconds in which all fail if they fail together
_left: list[bool] = []  # not empty if this process leaves alone
_EXAMPLE = "For example --coordinator 127.0.0.1:4321 --num-processes 2 --process-id 0."


class Place(NamedTuple):
    """The place of a process among those that train together.

    Attributes:
        coordinator: ``HOST:PORT`` at which process 0 is reached; ``auto`` leaves all to what started the processes.
        processes: how many there are.
        number: of this one, from 0.
    """

    coordinator: str
    processes: int | None = None
    number: int | None = None

    @property
    def host(self) -> str:
        """The host of the coordinator."""
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of the coordinator."""
        return int(self.coordinator.rpartition(":")[2])


def place_of(coordinator: str | None, processes: int | None, number: int | None) -> Place | None:
    """The place that the options of a command describe; None for a process that trains alone.

    Raises:
        SettingsError: they do not describe one.

    >>> place_of("127.0.0.1:4321", 2, 1)
    Place(coordinator='127.0.0.1:4321', processes=2, number=1)
    >>> place_of(None, None, None)
    """
    if coordinator is None:
        given = "--num-processes" if processes is not None else "--process-id" if number is not None else ""
        if given:
            raise SettingsError(f"{given} is given without --coordinator.", _EXAMPLE)
        return None
    place = Place(coordinator, processes, number)
    if coordinator == AUTO:
        return place
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise SettingsError(f"--coordinator is {coordinator!r}, expected HOST:PORT, or {AUTO}.", _EXAMPLE)
    if processes is None or number is None:
        missing = "--num-processes" if processes is None else "--process-id"
        raise SettingsError(f"--coordinator is given without {missing}.", _EXAMPLE)
    if not 0 <= number < processes:
        raise SettingsError(f"--process-id is {number}, expected 0 to {processes - 1}.", _EXAMPLE)
    return place


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("10.0.0.7")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def joined(place: Place | None, patience: float = PATIENCE) -> Iterator[None]:
    """Train with the other processes inside the block.

    Args:
        place: of this process; None changes nothing.
        patience: seconds to wait for the coordinator, and for all others.

    Raises:
        SettingsError: nothing tells the place of this process, or it is not one among these others.
        TrainingError: the coordinator does not answer, or another process does not come.
    """
    if place is None:
        yield
        return
    import jax

    if place.coordinator != AUTO:
        meet(place.host, place.port, place.processes or 1, place.number or 0, patience)
    # JAX would swallow SIGTERM to announce it to all; runs agree on signals themselves.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _initialize(place, patience)
    if is_loopback(place.host):
        _stay_at(place.host)
    _connect()
    try:
        yield
    except BaseException:
        if not _all_leave():
            _left.append(True)
            raise
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def _connect() -> None:
    """Have all processes reach each other now that they are here; gloo says so on stdout, which is for answers."""
    from neurai_core.training.team import team

    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        team().gather("here")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def left_alone() -> bool:
    """Whether this process has failed by itself. Then the runtime would have it wait for the others before it ends."""
    return bool(_left)


def _all_leave() -> bool:
    """Whether all processes leave by the error that this one has, or by errors of their own."""
    from jax._src import distributed

    try:
        distributed.global_state.client.wait_at_barrier("neurai leaves", round(1e3 * _LEAVING))  # type: ignore[union-attr]
    except Exception:
        return False
    return True


def _initialize(place: Place, patience: float) -> None:
    import jax

    given: dict[str, Any] = {} if place.coordinator == AUTO else _given(place)
    try:
        jax.distributed.initialize(initialization_timeout=round(max(patience, _AT_LEAST)), **given)
    except ValueError as error:
        raise SettingsError(
            f"Nothing tells this process its place among others: {error}", f"Give it: {_EXAMPLE}"
        ) from error


def _given(place: Place) -> dict[str, object]:
    given: dict[str, object] = {
        "coordinator_address": place.coordinator,
        "num_processes": place.processes,
        "process_id": place.number,
    }
    if "JAX_COORDINATOR_BIND_ADDRESS" not in os.environ:  # by default JAX listens at every address of the machine
        given["coordinator_bind_address"] = place.coordinator
    return given


def _stay_at(host: str) -> None:
    """Have what the CPUs exchange go over this address too, and not over the one that the machine's name leads to.

    JAX has no option for this.
    """
    from jax._src import distributed, xla_bridge

    def client() -> Any:
        from jax._src.lib import _jax

        make = _jax.make_gloo_tcp_collectives
        return xla_bridge.make_cpu_client(make(distributed_client=distributed.global_state.client, hostname=host))

    xla_bridge.register_backend_factory("cpu", client, priority=0, fail_quietly=False)

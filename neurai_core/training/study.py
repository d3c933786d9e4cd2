"""The study of a search: configurations that were asked for and told about. The one place that knows Optuna.

Every process asks the study itself, so any number of them may work on one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurai_core.errors import OutputError, missing_extra
from neurai_core.training.axes import Asked
from neurai_core.training.searched import JOURNAL

_RECORD, _VALUES, _SEEDS, _OWNER = "record", "values", "seeds", "owner"
_HINT = "Give --storage journal:FILE, or the URL of a database such as sqlite:///study.db."


@dataclass(frozen=True)
class Trial:
    """A configuration of a study.

    Attributes:
        number: its place in the study.
        texts: what was drawn, by the names of the axes.
        values: its values by name, once it has finished.
        seeds: the results of its seeds, once it has finished.
    """

    number: int
    texts: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    seeds: list[dict[str, Any]] = field(default_factory=list)


def check_optuna() -> None:
    """Check that a search can be run.

    Raises:
        MissingExtra: Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise missing_extra("optuna", "neurai[optuna]", "A search") from error


class Study:
    """A study in a storage, begun or joined.

    Args:
        storage: ``journal:FILE``, the URL of a database, or None for one in memory.
        name: its name in the storage.
        sampler: ``random`` or ``tpe``.
        seed: decides, with the number of a trial, what is drawn for it.
        maximize: whether the best score is the highest.

    Raises:
        OutputError: the storage cannot be used.
    """

    def __init__(self, storage: str | None, name: str, *, sampler: str, seed: int, maximize: bool) -> None:
        import optuna

        self._asked: dict[int, Any] = {}
        self.where = f"The study {name!r} in {_without_secrets(storage)}"
        with self._reaching(), _hushed(optuna):
            self._study = optuna.create_study(
                storage=_opened(storage),
                study_name=name,
                sampler=_anew(optuna, sampler, seed),
                direction="maximize" if maximize else "minimize",
                load_if_exists=True,
            )

    def agreed(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record with which the study was begun; this one if it is begun now."""
        with self._reaching():
            if _RECORD not in self._study.user_attrs:
                self._study.set_user_attr(_RECORD, dict(record))
            found: dict[str, Any] = self._study.user_attrs[_RECORD]
            return found

    def ask(self, axes: Sequence[Asked], most: int, trials: int) -> list[Trial]:
        """Draw up to ``most`` configurations, as long as the study has fewer than ``trials``."""
        asked = []
        with self._reaching():
            for _ in range(most):
                if len(self._counted()) >= trials:
                    break
                trial = self._study.ask()
                trial.set_user_attr(_OWNER, _me())
                if sum(number <= trial.number for number in self._counted()) > trials:  # others asked meanwhile
                    self.give_back(trial.number)
                    break
                asked.append(Trial(trial.number, {axis.name: _drawn(trial, axis) for axis in axes}))
                self._asked[trial.number] = trial
        return asked

    def tell(self, done: Trial, score: float | None) -> None:
        """Tell the results of a trial; None as the score of one that failed, which counts as a bad one."""
        from optuna.trial import TrialState

        trial = self._asked[done.number]
        with self._reaching():
            trial.set_user_attr(_VALUES, done.values)
            trial.set_user_attr(_SEEDS, done.seeds)
            if score is None:  # one without a score that is pruned ranks last; one that failed would be forgotten
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, score)

    def give_back(self, number: int) -> None:
        """Give up a trial: another is drawn in its place."""
        from optuna.trial import TrialState

        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def give_back_abandoned(self) -> None:
        """Give up the trials of processes of this machine that are gone."""
        with self._reaching():
            for number, owner in self._running().items():
                if _is_gone(owner):
                    self.give_back(number)

    def finished(self) -> list[Trial]:
        """The trials with results."""
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.PRUNED)
        with self._reaching():
            return [
                Trial(one.number, _texts(one.params), one.user_attrs[_VALUES], one.user_attrs[_SEEDS])
                for one in self._study.get_trials(deepcopy=False, states=states)
                if _SEEDS in one.user_attrs
            ]

    def others(self) -> list[str]:
        """Who trains the trials that are not finished."""
        with self._reaching():
            return sorted(set(self._running().values()))

    def _counted(self) -> list[int]:
        """The numbers of the trials that are finished or being trained."""
        from optuna.trial import TrialState

        return [one.number for one in self._study.get_trials(deepcopy=False) if one.state != TrialState.FAIL]

    def _running(self) -> dict[int, str]:
        from optuna.trial import TrialState

        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return {one.number: one.user_attrs.get(_OWNER, "another process") for one in running}

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn whatever a storage raises inside the block into one sentence: each has errors of its own."""
        try:
            yield
        except (MemoryError, OutputError):
            raise
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OutputError(f"{self.where} cannot be used: {first.rstrip('.')}.", _HINT) from error


def _drawn(trial: Any, axis: Asked) -> str:
    """A value of an axis, as a text."""
    if not axis.is_range:
        return str(trial.suggest_categorical(axis.name, axis.texts))
    kind, draw = (int, trial.suggest_int) if axis.is_whole else (float, trial.suggest_float)
    return repr(draw(axis.name, *map(kind, axis.texts), log=axis.scale == "log"))


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else repr(value) for name, value in params.items()}


def _anew(optuna: Any, sampler: str, seed: int) -> Any:
    """A sampler that begins anew with every trial, from its number: no two processes draw the same."""
    made = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler]

    class Anew(optuna.samplers.BaseSampler):  # type: ignore[misc, name-defined]
        def before_trial(self, study: Any, trial: Any) -> None:
            self.own = made(seed=(seed + 1_000_003 * trial.number) % 2**32)

        def infer_relative_search_space(self, *given: Any) -> Any:
            return self.own.infer_relative_search_space(*given)

        def sample_relative(self, *given: Any) -> Any:
            return self.own.sample_relative(*given)

        def sample_independent(self, *given: Any) -> Any:
            return self.own.sample_independent(*given)

    return Anew()


def _opened(storage: str | None) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.pool import NullPool

    if storage is None:
        return None
    if not storage.startswith(JOURNAL):  # trials take long, so no connection is kept between them
        return RDBStorage(storage, engine_kwargs={"poolclass": NullPool})
    path = Path(storage.removeprefix(JOURNAL)).expanduser().absolute()  # its lock is a link, which needs a whole path
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


@contextmanager
def _hushed(optuna: Any) -> Iterator[None]:
    """Leave out the announcement of a new study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _without_secrets(storage: str | None) -> str:
    """A storage as messages name it: a URL may hold a password.

    >>> _without_secrets("postgresql://me:secret@host/trials"), _without_secrets("journal:study.log")
    ('postgresql://...@host/trials', 'study.log')
    """
    if storage is None:
        return "memory"
    scheme, slashes, rest = storage.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}://{'...@' if at else ''}{place}" if slashes else storage.removeprefix(JOURNAL)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _is_gone(owner: str) -> bool:
    """Whether a process of this machine has ended."""
    _, _, rest = owner.partition("process ")
    number, _, host = rest.partition(" on ")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False

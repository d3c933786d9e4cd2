"""Observers: several share a hook, and a broken one stops no run."""

from __future__ import annotations

from typing import Any

import pytest

from neurai_core.errors import PluginError
from neurai_core.hookspecs import hookimpl
from neurai_core.registry import Registry

pytestmark = pytest.mark.contract

STEP = {"step": 3, "epoch": 0, "loss": 0.5, "accuracy": -1.0}


class Recorder:
    """Writes down what it is told; asks only for what it needs."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    def neurai_after_step(self, step: int, loss: float) -> None:
        self.seen.append((step, loss))

    @hookimpl
    def neurai_checkpoint(self, path: str) -> None:
        self.seen.append(path)


def install(site: Any, distribution: str, body: str, name: str = "watch") -> None:
    source = f"""
    from neurai_core.hookspecs import hookimpl
    seen = []
    class Watcher:
        @hookimpl
        def neurai_after_step(self, step):
            {body}
    plugin = Watcher()
    """
    site.add(distribution, source, entries={name: "plugin"}, group="neurai.observers")


def test_an_observer_is_told_inside_the_block_only(registry: Registry) -> None:
    with registry.observe(Recorder()) as recorder:
        registry.observers().notify("neurai_after_step", **STEP)
        registry.observers().notify("neurai_checkpoint", step=3, path="here")
        registry.observers().notify("neurai_before_epoch", epoch=1)
    registry.observers().notify("neurai_after_step", **STEP)
    assert recorder.seen == [(3, 0.5), "here"]
    assert len(registry.observers()) == 0


def test_an_exception_of_ones_own_observer_comes_through(registry: Registry) -> None:
    class Stop(Exception):
        pass

    class Stopper:
        @hookimpl
        def neurai_after_step(self, loss: float) -> None:
            raise Stop

    with pytest.raises(Stop), registry.observe(Stopper()):
        registry.observers().notify("neurai_after_step", **STEP)
    assert len(registry.observers()) == 0


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("def neurai_after_stop(self): ...", "Did you mean 'neurai_after_step'"),
        (
            "def neurai_after_step(self, weights): ...",
            "The hook is neurai_after_step(step, epoch, loss, accuracy).",
        ),
    ],
)
def test_a_wrong_hook_is_refused_at_once(method: str, problem: str, registry: Registry) -> None:
    namespace: dict[str, Any] = {"hookimpl": hookimpl}
    exec(f"class Wrong:\n    @hookimpl\n    {method}", namespace)
    with pytest.raises(PluginError) as raised, registry.observe(namespace["Wrong"]()):
        pass
    assert problem in raised.value.hint


def test_an_object_without_hooks_and_a_wrapper_are_refused(registry: Registry) -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def neurai_after_step(self) -> Any:
            return (yield)

    for wrong, problem in ((object(), "implements no hook"), (Wrapper(), "is a wrapper")):
        with pytest.raises(PluginError, match=problem), registry.observe(wrong):
            pass


def test_installed_observers_are_loaded_when_asked_for(site: Any, registry: Registry) -> None:
    install(site, "watch-a", "seen.append(step)")
    install(site, "watch-b", "seen.append(step)")
    assert [row.status for row in registry.plugins(static=True) if row.kind == "observer"] == ["unloaded"] * 2
    registry.observers().notify("neurai_after_step", **STEP)
    assert registry.observers() is registry.observers()
    assert __import__("watch_a").seen == __import__("watch_b").seen == [3]
    assert len(registry.observers()) == 2
    assert [row.status for row in registry.plugins(static=True) if row.kind == "observer"] == ["ok"] * 2
    assert [row.status for row in registry.plugins() if row.kind == "observer"] == ["ok"] * 2


def test_a_blocked_observer_is_not_loaded(site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "watch-a", "seen.append(step)")
    monkeypatch.setenv("NEURAI_BLOCK", "watch-a")
    assert len(registry.observers()) == 0


def test_an_installed_observer_that_cannot_be_loaded_is_contained(site: Any, registry: Registry) -> None:
    install(site, "watch-a", "seen.append(step)")
    site.add("watch-b", "raise SystemExit", entries={"bad": "plugin"}, group="neurai.observers")
    assert len(registry.observers()) == 1
    rows = {row.name: (row.status, row.step) for row in registry.plugins() if row.kind == "observer"}
    assert rows == {"watch": ("ok", ""), "bad": ("failed", "import")}


def test_an_installed_observer_that_fails_is_switched_off_and_the_others_go_on(site: Any, registry: Registry) -> None:
    install(site, "watch-a", "seen.append(step)")
    install(site, "watch-b", "raise ValueError('no disk')", name="bad")
    with pytest.warns(RuntimeWarning, match="bad@watch-b 1.0 failed at step 'call': ValueError: no disk.*switched off"):
        registry.observers().notify("neurai_after_step", **STEP)
    registry.observers().notify("neurai_after_step", **STEP)
    assert __import__("watch_a").seen == [3, 3]
    row = next(row for row in registry.plugins() if row.name == "bad")
    assert (row.status, row.step) == ("failed", "call")


def test_a_broken_observer_is_isolated_too(site: Any, registry: Registry) -> None:
    site.add("watch-b", "import os; os.abort()", entries={"bad": "plugin"}, group="neurai.observers")
    row = next(row for row in registry.plugins(isolate=True) if row.name == "bad")
    assert (row.status, row.error) == ("crash", "Its process was ended by SIGABRT (signal 6).")

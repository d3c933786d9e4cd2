"""Observers: several share a hook, and a broken one stops no run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from neurai_core.errors import PluginError
from neurai_core.hookspecs import hookimpl
from neurai_core.registry import Registry

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


def watched(registry: Registry, **how: bool) -> list[str]:
    """The status of every observer that is not built in."""
    return [row.status for row in registry.plugins(**how) if row.kind == "observer" and row.distribution != "neurai"]


def test_an_observer_is_told_inside_the_block_only(registry: Registry) -> None:
    with registry.observe(Recorder()) as recorder:
        registry.observers().notify("neurai_after_step", **STEP)
        registry.observers().notify("neurai_checkpoint", step=3, path="here")
        registry.observers().notify("neurai_before_epoch", epoch=1)
    registry.observers().notify("neurai_after_step", **STEP)
    assert recorder.seen == [(3, 0.5), "here"]
    assert len(registry.observers()) == 0


def does(action: Callable[[], Any]) -> Any:
    """An observer that does something after every step."""

    class Doer:
        @hookimpl
        def neurai_after_step(self) -> Any:
            return action()

    return Doer()


def fails() -> None:
    raise ZeroDivisionError("nothing there")


def test_an_exception_of_ones_own_observer_comes_through_with_its_place(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError, match="nothing there") as raised, registry.observe(does(fails)):
        registry.observers().notify("neurai_after_step", **STEP)
    (note,) = raised.value.__notes__
    assert note.startswith(f"Raised by the observer Doer in neurai_after_step, {__file__}, line ")
    assert len(registry.observers()) == 0


def test_an_observer_that_calls_sys_exit_does_not_end_the_program_without_a_word(registry: Registry) -> None:
    with (
        pytest.raises(PluginError, match=r"The observer Doer called sys\.exit in neurai_after_step"),
        registry.observe(does(sys.exit)),
    ):
        registry.observers().notify("neurai_after_step", **STEP)


def test_an_observer_says_why_to_stop(registry: Registry) -> None:
    with registry.observe(does(lambda: "")), registry.observe(does(lambda: "enough")):
        assert registry.observers().notify("neurai_after_step", **STEP) == "enough"
        assert registry.observers().notify("neurai_before_epoch", epoch=1) == ""
    with pytest.raises(TypeError, match="it returned 0, expected a text that says why"), registry.observe(does(int)):
        registry.observers().notify("neurai_after_step", **STEP)


def test_only_hooks_of_steps_bring_every_step_back_to_the_host(registry: Registry) -> None:
    class Quiet:
        @hookimpl
        def neurai_after_epoch(self) -> None: ...

    with registry.observe(Quiet()):
        assert not registry.observers().watch_steps
        with registry.observe(does(lambda: None)):
            assert registry.observers().watch_steps


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


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("def neurai_after_step(self, step, loss=0.0): ...", "takes loss with a default or by keyword only"),
        ("def neurai_after_step(self, *, step): ...", "takes step with a default or by keyword only"),
        ("async def neurai_after_step(self): ...", "is a generator or a coroutine"),
        ("def neurai_after_step(self): yield", "is a generator or a coroutine"),
    ],
)
def test_a_hook_that_would_not_be_called_as_meant_is_refused(method: str, problem: str, registry: Registry) -> None:
    namespace: dict[str, Any] = {"hookimpl": hookimpl}
    exec(f"class Wrong:\n    @hookimpl\n    {method}", namespace)
    with pytest.raises(PluginError, match=problem), registry.observe(namespace["Wrong"]()):
        pass


def test_a_class_and_a_hook_without_its_mark_are_refused(registry: Registry) -> None:
    class Unmarked:
        def neurai_after_epoch(self) -> None: ...

    for wrong, problem in (
        (Recorder, r"Recorder is a class, expected an instance of it: Recorder\(...\)"),
        (Unmarked(), "neurai_after_epoch is not marked with neurai_core.hookimpl"),
    ):
        with pytest.raises(PluginError, match=problem), registry.observe(wrong):
            pass


def test_an_observer_with_a_spec_is_built_where_it_is_asked_for(site: Any, registry: Registry) -> None:
    source = """
    from neurai_core.hookspecs import hookimpl
    from neurai_core.plugin import Plugin
    from neurai_core.specs import Config, ObserverSpec
    class Settings(Config):
        every: int = 2
    class Watcher:
        def __init__(self, config):
            self.every = config.every
        @hookimpl
        def neurai_after_step(self, step): ...
    plugin = Plugin(ObserverSpec(name="watch", summary="Watches", config=Settings), Watcher)
    """
    site.add("watch-a", source, entries={"watch": "plugin"}, group="neurai.observers")
    install(site, "watch-b", "seen.append(step)", name="all")
    assert len(registry.observers()) == 1  # the one without a spec observes every run
    assert registry.spec("observer", "all").always and not registry.spec("observer", "watch").always
    assert registry.create("observer", "watch", settings={"every": 3}).every == 3
    assert {"all", "watch"} < {*registry.names("observer")}


def test_installed_observers_are_loaded_when_asked_for(site: Any, registry: Registry) -> None:
    install(site, "watch-a", "seen.append(step)")
    install(site, "watch-b", "seen.append(step)")
    assert watched(registry, static=True) == ["unloaded"] * 2
    registry.observers().notify("neurai_after_step", **STEP)
    assert registry.observers() is registry.observers()
    assert __import__("watch_a").seen == __import__("watch_b").seen == [3]
    assert len(registry.observers()) == 2
    assert watched(registry, static=True) == watched(registry) == ["ok"] * 2


def test_a_blocked_observer_is_not_loaded(site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "watch-a", "seen.append(step)")
    monkeypatch.setenv("NEURAI_BLOCK", "watch-a")
    assert len(registry.observers()) == 0


def test_an_installed_observer_that_cannot_be_loaded_is_contained(site: Any, registry: Registry) -> None:
    install(site, "watch-a", "seen.append(step)")
    site.add("watch-b", "raise SystemExit", entries={"bad": "plugin"}, group="neurai.observers")
    with pytest.warns(RuntimeWarning, match="bad@watch-b 1.0 failed at step 'import'.* Runs continue without it"):
        assert len(registry.observers()) == 1
    rows = {row.name: (row.status, row.step) for row in registry.plugins() if "watch" in row.distribution}
    assert rows == {"watch": ("ok", ""), "bad": ("failed", "import")}


def test_an_installed_observer_that_fails_is_switched_off_and_the_others_go_on(site: Any, registry: Registry) -> None:
    install(site, "watch-a", "seen.append(step)")
    install(site, "watch-b", "raise ValueError('no disk')", name="bad")
    with pytest.warns(
        RuntimeWarning, match="bad@watch-b 1.0 failed .*: no disk.* in neurai_after_step, .*watch_b.py, line 7.*off"
    ):
        registry.observers().notify("neurai_after_step", **STEP)
    registry.observers().notify("neurai_after_step", **STEP)
    assert __import__("watch_a").seen == [3, 3]
    row = next(row for row in registry.plugins() if row.name == "bad")
    assert (row.status, row.step) == ("failed", "call")


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_a_broken_observer_is_isolated_too(site: Any, registry: Registry) -> None:
    site.add("watch-b", "import os; os.abort()", entries={"bad": "plugin"}, group="neurai.observers")
    row = next(row for row in registry.plugins(isolate=True) if row.name == "bad")
    assert (row.status, row.error) == ("crash", "Its process was ended by SIGABRT (signal 6).")

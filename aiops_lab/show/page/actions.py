"""What do the buttons of the page do? Forms of the page itself, and of no other site."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from flask import Blueprint, current_app, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from aiops_lab.checks import FieldError
from aiops_lab.explain.changes import Change, check_change
from aiops_lab.record.faults import Fault, FaultInjector, Injected
from aiops_lab.show.page.life import is_going_on
from aiops_lab.show.page.rendering import path_of, refusal
from aiops_lab.spans import Key

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor

EXTENSION = "aiops_lab_simulate"
"""Where an app keeps what its simulation interface may break, once that is mounted."""


class Amount(NamedTuple):
    """The number of the form: the field of `Fault` that it sets, what it is divided by, its unit,
    and the rule for it.
    """

    field: str
    scale: float
    unit: str
    rule: str


AMOUNTS = {
    "delay": Amount("duration_ms", 1.0, "ms", "must be between 0 and 60000 (ms)"),
    "error": Amount("rate", 100.0, "%", "must be between 0 and 100 (% of requests)"),
    "hang": None,
}
"""By kind of a fault; None where it needs no number."""

BETWEEN = "\x1f"  # service and endpoint in the value of a choice


class Simulation(NamedTuple):
    """What may be broken here, and by whom."""

    injector: FaultInjector
    places: list[Key]


def add(
    blueprint: Blueprint,
    monitor: Monitor,
    clock: Callable[[], pd.Timestamp],
) -> None:
    """Add the paths to which the forms of the page are sent."""

    def move(id: str, to: Callable[[str, pd.Timestamp], object]) -> ResponseReturnValue:
        try:
            to(id, clock())
        except KeyError:
            return refusal(404, "Not found", f"There is no incident {id}.")
        return redirect(path_of("incident", id=id), 303)

    def is_asked_first(id: str) -> bool:
        """Return whether an incident is going on, so that resolving it needs a second thought."""
        try:
            return is_going_on(monitor.incident(id), clock())
        except KeyError:
            return False

    @blueprint.post("/page/incidents/<id>/acknowledge")
    def acknowledge(id: str) -> ResponseReturnValue:
        return move(id, monitor.acknowledge)

    @blueprint.post("/page/incidents/<id>/resolve")
    def resolve(id: str) -> ResponseReturnValue:
        if request.form.get("accept") == "true":
            return move(id, monitor.accept)
        if request.form.get("sure") != "true" and is_asked_first(id):
            return redirect(path_of("ask_resolve", id=id), 303)
        return move(id, monitor.resolve)

    @blueprint.post("/page/incidents/<id>/undo")
    def undo(id: str) -> ResponseReturnValue:
        return move(id, monitor.undo_accept)

    @blueprint.post("/page/changes")
    def note() -> ResponseReturnValue:
        about = (request.form.get(name, "") for name in ("service", "what"))
        monitor.note(check_change(Change(clock(), *about)))
        return redirect(path_of("changes"), 303)

    @blueprint.post("/page/faults")
    def inject() -> ResponseReturnValue:
        simulation = _must_be_mounted()
        simulation.injector.inject(_fault(simulation.places))
        return redirect(path_of("overview") + "#faults", 303)

    @blueprint.post("/page/faults/clear")
    def clear() -> ResponseReturnValue:
        _must_be_mounted().injector.clear()
        return redirect(path_of("overview") + "#faults", 303)


def mounted() -> Simulation | None:
    """Return what may be broken in the application of this request, None where nothing may."""
    return current_app.extensions.get(EXTENSION)


def faults_of(simulation: Simulation | None) -> list[Injected]:
    """Return the faults in force."""
    return [] if simulation is None else simulation.injector.active()


def breakable(simulation: Simulation | None) -> list[tuple[str, str]]:
    """Return what may be broken: the value of the choice, and how it is shown."""
    places = [] if simulation is None else simulation.places
    return [(BETWEEN.join(place), f"{place[1]} ({place[0]})") for place in places]


def _must_be_mounted() -> Simulation:
    simulation = mounted()
    if simulation is None:
        raise NotFound("Nothing may be broken here.")
    return simulation


def _fault(places: list[Key]) -> Fault:
    """Return the fault that the form asks for."""
    form = request.form
    names = {BETWEEN.join(place): place for place in places}
    place = names.get(form.get("endpoint", ""))
    if place is None:
        raise FieldError("endpoint", "must be one of those offered", form.get("endpoint"))
    kind = form.get("kind", "")
    if kind not in AMOUNTS:
        raise FieldError("kind", f"must be one of {', '.join(AMOUNTS)}", kind)
    amount = AMOUNTS[kind]
    if amount is None:
        return Fault(kind, *place)
    return _fault_of(kind, place, amount, form.get("amount", ""))


def _fault_of(kind: str, place: Key, amount: Amount, text: str) -> Fault:
    """Return the fault with the number that was typed; its rule speaks of what the form shows."""
    try:
        value = float(text) / amount.scale
        return Fault(kind, *place, **{amount.field: value})  # type: ignore[arg-type]
    except ValueError:
        raise FieldError("How much", amount.rule, text) from None

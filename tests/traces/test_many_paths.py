"""What is an id by its number only: names and slugs in the paths of calls."""

from __future__ import annotations

import pytest

import aiops_lab as lab
from aiops_lab.scale.tasks import _samples, learn_names
from aiops_lab.traces.many_paths import MANY_SIBLINGS, SELDOM, folded_by_number
from tests.support.traces import span

LETTERS = "abcdefghij"


def word(number: int) -> str:
    """Return a word for a number: letters only, so that no rule of letters takes it for an id."""
    return "".join(LETTERS[int(digit)] for digit in f"{number:03}")


SLUGS = {f"/blog/{word(n)}-bread": 1 for n in range(MANY_SIBLINGS + 1)}


def test_many_siblings_that_are_seldom_called_are_ids():
    assert set(folded_by_number(SLUGS).values()) == {"/blog/<...>"}
    assert folded_by_number(dict(list(SLUGS.items())[:MANY_SIBLINGS])) == {}


def test_what_is_called_often_or_lies_elsewhere_keeps_its_name():
    routes = folded_by_number({**SLUGS, "/blog/feed": SELDOM, "/about": 1, "/blog": 1})
    assert routes == dict.fromkeys(SLUGS, "/blog/<...>")


def test_a_short_recording_of_many_endpoints_leaves_them_apart():
    assert folded_by_number(dict.fromkeys(SLUGS, 2)) == {}


def test_what_follows_an_id_stays():
    paths = {f"{path}/{tail}": 1 for path in SLUGS for tail in ("edit", "likes")}
    assert set(folded_by_number(paths).values()) == {"/blog/<...>/edit", "/blog/<...>/likes"}


def test_many_paths_of_which_no_folder_holds_many_are_ids_from_the_second_segment_on():
    paths = {f"/files/{word(n % 20)}/{word(n)}": 1 for n in range(150)}
    assert set(folded_by_number(paths).values()) == {"/files/<...>/<...>"}


@pytest.mark.parametrize("path", ["/orders/{}", "GET /orders/{}/items"])
def test_paths_without_a_route_lose_their_ids_where_they_are_many(path):
    paths = {path.format(n): 1 for n in range(10_000, 10_000 + MANY_SIBLINGS + 1)}
    assert set(folded_by_number(paths).values()) == {path.format("<...>")}


def calls(first: int, last: int, slow_ms: float = 0, served: bool = False) -> list[lab.Span]:
    """Return requests, one a second, in which a shop asks a blog for a page, each for another."""
    made = []
    for n in range(first, last):
        at, ms = 1000 * n, 30 + n % 5 + slow_ms
        path = f"/blog/{word(n)}"
        if served:
            about = {"trace": n, "service": "blog"}
            made.append(span(5000 + n, 2 * n + 1, path, "server", at + 4, ms - 2, **about))
        made += [
            span(2 * n, None, "/a", "server", at, ms + 8, trace=n),
            span(2 * n + 1, 2 * n, path, "client", at + 3, ms, trace=n, peer="blog"),
        ]
    return made


@pytest.mark.parametrize("served", [False, True])
def test_a_service_that_is_asked_for_other_names_each_time_is_named(served):
    before, now = calls(1, 201, served=served), calls(201, 241, slow_ms=200, served=served)
    (suspect,) = lab.rank_root_causes(lab.to_frame(before), lab.to_frame(now))
    assert (suspect.service, suspect.endpoint) == ("blog", "/blog/<...>")


def test_parts_of_a_recording_know_which_paths_are_seldom_called():
    pages = calls(1, 201)
    feed = [
        span(5000 + n, None, "/blog/feed", "client", 1000 * n, 9, trace=5000 + n, peer="blog")
        for n in range(SELDOM)
    ]
    frame = lab.to_frame([*pages, *feed])
    halves = frame[:202], frame[202:].reset_index(drop=True)
    names = learn_names([_samples(half) for half in halves])
    assert set(names.keys) == {("shop", "/a"), ("blog", "/blog/<...>"), ("blog", "/blog/feed")}

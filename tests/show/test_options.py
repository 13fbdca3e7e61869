"""The options of a server have the defaults that admit nobody from elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser

from aiops_lab.show.options import add_access


def test_by_default_it_is_reached_from_this_machine_alone():
    parser = ArgumentParser()
    add_access(parser.add_argument)
    given = parser.parse_args([])
    assert (given.host, given.token, given.private) == ("127.0.0.1", None, False)

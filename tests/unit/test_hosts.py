"""The names by which a server is called."""

from __future__ import annotations

import pytest

from gsd_tasks.domain.hosts import host_name, in_url, known_hosts, reached_at


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("", ""),
        ("gsd.example", "gsd.example"),
        ("GSD.example:80", "gsd.example"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[FD00::7]", "[fd00::7]"),
        ("[::1]:8470", "[::1]"),
    ],
)
def test_a_host_is_known_by_its_name_whatever_its_port(host: str, name: str) -> None:
    assert host_name(host) == name


def test_names_that_are_given_are_known_beside_those_of_this_machine() -> None:
    here = {"localhost", "127.0.0.1", "[::1]"}
    assert known_hosts([]) == here
    assert known_hosts(["", "GSD.example", "10.0.0.7", "FD00::7"]) == here | {"gsd.example", "10.0.0.7", "[fd00::7]"}


def test_an_address_of_the_newer_kind_is_told_from_its_port() -> None:
    assert [in_url(name) for name in ("gsd.example", "10.0.0.7", "fd00::7")] == ["gsd.example", "10.0.0.7", "[fd00::7]"]


def test_what_listens_everywhere_is_reached_at_this_machine() -> None:
    hosts = ("0.0.0.0", "::", "", "10.0.0.7")
    assert [reached_at(host) for host in hosts] == ["127.0.0.1", "::1", "127.0.0.1", "10.0.0.7"]

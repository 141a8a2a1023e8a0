"""Folders as `embodied certs` makes them, and some with one thing wrong: for tests of what either end says to them."""

from __future__ import annotations

import datetime
from pathlib import Path

from embodied.bridge.authority import Authority, Period
from embodied.bridge.certificates import CLIENT

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
VALID, PAST, FUTURE = Period.of_days(7), Period(NOW - 9 * DAY, NOW - 2 * DAY), Period(NOW + 2 * DAY, NOW + 9 * DAY)


def make_folder(
    folder: Path,
    *,
    authority: Authority | None = None,
    hosts: tuple[str, ...] = ("robot.lab",),
    server: Period = VALID,
    client: Period = VALID,
) -> Authority:
    """Write authority, server and client into folder; return the authority, which may be given as well."""
    folder.mkdir(parents=True)
    authority = authority or Authority.create(VALID)
    authority.save(folder)
    authority.make_server(folder, hosts, server)
    authority.make_client(folder, CLIENT, client)
    return authority

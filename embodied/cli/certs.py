"""Make a local authority and certificates, so that a robot's computer and a policy's know each other.

For tests and labs: whoever has DIR/authority.key can make certificates that your robot trusts, and nothing revokes one
before it expires. Keep that file off every robot; where an organisation has an authority of its own, use that instead.
"""

from __future__ import annotations

import argparse
import importlib
import ipaddress
import re
import shutil
from pathlib import Path

from embodied.bridge.certificates import CLIENT
from embodied.bridge.credentials import AUTHORITY, AUTHORITY_KEY
from embodied.cli.arguments import positive_int
from embodied.errors import EmbodiedError
from embodied.output import output_folder

EXAMPLE = """examples:
  embodied certs certs --host robot.lab --host 10.0.0.5
  embodied certs certs --client anna
"""

NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,62}")
MAX_DAYS = 36_500
HOST = re.compile(r"[-.a-zA-Z0-9]{1,253}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder and for whom certificates are made."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder; with --client, one made here before")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME|IP",
        help="name or address by which clients reach the server; may be given several times",
    )
    what.add_argument("--client", metavar="NAME", help="make another client's certificate, in DIR/NAME")
    parser.add_argument(
        "--days", type=positive_int, default=365, metavar="N", help="until the certificates expire (default 365)"
    )


def run(args: argparse.Namespace) -> int:
    """Make them, and say which file goes to which machine."""
    try:
        importlib.import_module("cryptography")
    except ModuleNotFoundError as error:
        raise EmbodiedError("certs needs cryptography: pip install 'embodied-runtime[certs]'") from error
    if args.days > MAX_DAYS:
        raise EmbodiedError(f"--days {args.days}; at most {MAX_DAYS}")
    if args.client is not None:
        return _add_client(args.folder, args.client, args.days)
    return _create(args.folder, args.host, args.days)


def _create(folder: Path, hosts: list[str], days: int) -> int:
    from embodied.bridge.authority import Authority, Period

    for host in hosts:
        if not _is_host(host):
            raise EmbodiedError(
                f"--host takes a name or an IP address alone, as in robot.lab or 10.0.0.5; got {host!r}"
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EmbodiedError(
            f"{folder} holds something, and certs overwrites nothing; choose another folder, "
            f"or add a client to the authority there: embodied certs {folder} --client NAME"
        )
    with output_folder(folder, marker=AUTHORITY) as made:
        period = Period.of_days(days)
        authority = Authority.create(period)
        authority.save(made)
        authority.make_server(made, hosts, period)
        authority.make_client(made, CLIENT, period)
    print(
        f"wrote {folder}, for tests and labs, valid for {days} days\n"
        f"  to the computer that serves ({', '.join(hosts)}):  {AUTHORITY} server.pem server.key\n"
        f"  to the computer that connects to it:  {AUTHORITY} client.pem client.key\n"
        f"  to no other computer:  {AUTHORITY_KEY}; who has it can make a client that the robot obeys\n"
        "each in a folder of its own there, named with --tls"
    )
    return 0


def _add_client(folder: Path, name: str, days: int) -> int:
    from embodied.bridge.authority import Authority, Period

    if not NAME.fullmatch(name):
        raise EmbodiedError(f"--client takes a name of letters, digits and -, as in anna; got {name!r}")
    if (folder / name).exists():
        raise EmbodiedError(f"{folder / name} is there already, and certs overwrites nothing; choose another name")
    authority = Authority.load(folder)
    with output_folder(folder / name, marker=AUTHORITY) as made:
        shutil.copyfile(folder / AUTHORITY, made / AUTHORITY)
        authority.make_client(made, name, Period.of_days(days))
    print(f"wrote {folder / name}, valid for {days} days; copy that folder to {name}'s computer and name it with --tls")
    return 0


def _is_host(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return HOST.fullmatch(text) is not None

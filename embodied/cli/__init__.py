"""The command line: a table of verbs, each in its own module that is imported only when its verb is used."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, Protocol, cast

from embodied.errors import EmbodiedError

# verb -> what it does; its module is `embodied.cli.<verb>`, a Verb.
VERBS = {
    "host": "serve a robot over gRPC",
    "serve": "serve a policy over gRPC",
    "stop": "press a robot's emergency stop, or release it",
    "rollout": "run a policy on a robot and write a report, videos and a summary",
    "recover": "make a dataset of what an interrupted rollout had recorded",
    "compare": "compare two reports that share their seeds, episode by episode",
    "collect": "record demonstrations",
    "replay": "play a recorded episode on a robot, or compare two replays",
    "data": "look at a dataset, check it, edit it",
    "finetune": "train a policy on a dataset",
    "tokens": "compare two ways of writing actions as tokens, on a dataset",
    "check": "test anyone's robot server against the contract",
    "setup": "give a new arm's servos their ids and baud rate, one at a time",
    "calibrate": "find an arm's zeros and ranges by hand, and write them down",
    "relax": "switch an arm's motors off, so that it can be moved by hand",
    "certs": "make a local authority and certificates, for tests and labs",
    "doctor": "say what this machine can do, what is missing and the command that mends it",
}

OURS = {"embodied", "envs", "policies"}  # of which a module that is missing is a bug
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class Verb(Protocol):
    """What a verb's module offers; its docstring is the verb's help, and its `EXAMPLE` ends it."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit status; raise EmbodiedError for the user's mistake."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status: 0 done, 2 the user's mistake, 130 interrupted.

    A mistake of the user's is one line on stderr and never a traceback; a traceback is always a bug of ours.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit)  # so that whatever is open closes, and nothing stays half-written
    try:
        # --help and a bad verb exit here, before any verb's module is imported.
        name = _verb_parser().parse_args(arguments[:1]).verb
        verb = cast(Verb, importlib.import_module(f"embodied.cli.{name}"))
        args = _arguments_parser(name, verb).parse_args(arguments[1:])
        return verb.run(args)
    except SystemExit as exit_:  # argparse exits by itself: 0 after --help, 2 after a mistake
        return exit_.code if isinstance(exit_.code, int) else EXIT_USER_ERROR
    except EmbodiedError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OURS:
            raise
        needs = f"embodied {name} needs {error.name!r}, which is not installed here"
        print(f"error: {needs}; embodied doctor names the command", file=sys.stderr)
        return EXIT_USER_ERROR
    except BrokenPipeError:
        # The reader of a pipe left (`embodied ... | head`); what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a disk that is full, a folder that is read-only: it names the file and the reason
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _exit(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, where argparse would print all of the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f"error: {message}; {self.prog} --help says more\n")


def _verb_parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {what}" for name, what in VERBS.items())
    parser = _Parser(
        prog="embodied",
        description="Close the loop between a multimodal policy and a robot.",
        epilog=f"verbs:\n{verbs}\n\nembodied VERB --help says more, with an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of the verbs below")
    return parser


def _arguments_parser(name: str, verb: Verb) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"embodied {name}",
        description=verb.__doc__,
        epilog=getattr(verb, "EXAMPLE", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_arguments(parser)
    return parser

"""The entry of the command line, and the one place where errors become a line on standard error and an exit code.

0 is success, 2 any error, 130 an interrupt (what there was by then has been printed and saved).
"""

import io
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from probseq.cli import network_commands, translation_commands  # noqa: F401 - their commands join those of app
from probseq.cli.commands import app
from probseq.errors import ProbseqError

ERROR, INTERRUPTED = 2, 130

OPTIONS = {
    "fill_gaps=True inserts": "--fill-gaps inserts",
    "priors=True": "--priors",
    "pass symbols=True to read the texts as categories": "--family categorical reads the texts as categories",
    "(resume=True)": "with --resume",
    "feedback='observed'": "--feedback observed",
    "stopping=None": "--no-stop",
    "series.unlabelled()": "leave --label out",
}
"""What a remedy of the Python interface is called on the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program's name; None takes them from the process.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            code = app(given, prog_name="probseq", standalone_mode=False, obj=shlex.join(["probseq", *given]))
            sys.stdout.flush()
        for text in dict.fromkeys(_one_line(str(warning.message)) for warning in caught if _ours(warning)):
            print(f"probseq: warning: {text}", file=sys.stderr)
        if code == INTERRUPTED:
            return _fail("interrupted.", INTERRUPTED)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _fail("interrupted.", INTERRUPTED)
    except SystemExit:  # how typer leaves when standard output was closed by its reader
        return _closed()
    except BrokenPipeError:
        return _closed()
    except ProbseqError as error:
        return _fail(_as_options(str(error)))
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
    except MemoryError:
        return _fail("the data must fit into memory, got more than there is; give a part of it.")
    except Exception as error:
        return _fail(_usage(error) or _unexpected(error))


def _as_options(text: str) -> str:
    """A remedy of the Python interface in the words of the command line."""
    for python, option in OPTIONS.items():
        text = text.replace(python, option)
    return text


def _usage(error: Exception) -> str:
    """The text of typer's errors of usage, whose class has no public name; empty for any other error."""
    message = getattr(error, "format_message", None)
    if message is None:
        return ""
    command = getattr(getattr(error, "ctx", None), "command_path", "probseq")
    return f"{message().rstrip('.')}; try '{command} --help'."


def _unexpected(error: Exception) -> str:
    """An error that nobody foresaw; its trace is shown only to who asks for it."""
    if os.environ.get("PROBSEQ_TRACEBACK"):
        raise error
    return (
        f"this should not have happened, {type(error).__name__}: {error}; set PROBSEQ_TRACEBACK=1 to see where, and "
        "please report it."
    )


def _ours(warning: Any) -> bool:
    """Whether a warning was raised for the user rather than for a programmer."""
    return warning.category is UserWarning and f"{os.sep}probseq{os.sep}" in warning.filename


def _fail(text: str, code: int = ERROR) -> int:
    print(f"probseq: {_one_line(text)}", file=sys.stderr)
    return code


def _closed() -> int:
    """Standard output is gone: give Python another to flush at its exit, so that it does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = io.StringIO()
    return _fail("standard output was closed before all was written.")


def _one_line(text: str) -> str:
    return " ".join(text.split())

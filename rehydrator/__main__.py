"""The program's edge: runs the command line and turns errors into one sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import click

from rehydrator.errors import ExitCode, OutputClosedError, RehydratorError

_INTERRUPTED = "interrupted; nothing was left under a final name"


class _Terminated(BaseException):
    """A signal asked the program to end; like KeyboardInterrupt, nothing but the edge handles it."""


def _terminate(signum: int, _frame: FrameType | None) -> NoReturn:
    """Leave through the usual clean-up, as an interrupt from the keyboard does."""
    raise _Terminated(128 + signum)


def _complain(text: str) -> None:
    try:
        click.echo(f"rehydrator: {text}", err=True)
    except OSError:
        return


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; never raises an Exception and never prints a traceback."""
    try:
        from rehydrator.cli import cli  # noqa: PLC0415 - most of the start, interruptible too

        result = cli.main(args=arguments, prog_name="rehydrator", standalone_mode=False)
        _flush()
    except (click.Abort, KeyboardInterrupt):
        _complain(_INTERRUPTED)
        return ExitCode.INTERRUPTED
    except _Terminated as signalled:
        _complain(_INTERRUPTED)
        return int(signalled.args[0])
    except SystemExit as end:  # click ends so when a shell asked for completion (0), or nobody reads standard output
        return ExitCode.USAGE_OR_IO if end.code else ExitCode.OK
    except Exception as error:
        return _report(error)
    return result if isinstance(result, int) else ExitCode.OK  # click returns the code of an Exit that was raised


def _flush() -> None:
    """Write what standard output was given. Raises OutputError where it does not take that."""
    from rehydrator.disk.sink import output_error  # noqa: PLC0415 - the command has imported it

    try:
        if sys.stdout is not None:  # None: closed before the program began
            sys.stdout.flush()
    except OSError as error:
        raise output_error(error, "standard output") from error


def _report(error: Exception) -> int:
    """Say in one sentence what went wrong and return the exit code for it."""
    match error:
        case OutputClosedError() | BrokenPipeError():
            pass  # the reader knows
        case RehydratorError():
            _complain(f"error: {error}")
            return error.exit_code
        case click.ClickException():
            error.show()
        case OSError():
            _complain(f"error: {error.filename or 'system'}: {error.strerror or error}")
        case _:  # a defect of this program
            if os.environ.get("REHYDRATOR_DEBUG"):
                traceback.print_exception(error)
            _complain(f"internal error: {type(error).__name__}: {error}. Set REHYDRATOR_DEBUG=1 and report it, please")
    return ExitCode.USAGE_OR_IO


def _drop_unwritten_output() -> None:
    """Drop what standard output could not take: the interpreter's own flush would complain and change the exit code."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """Entry point of the console scripts."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _terminate)
    code = run()
    _drop_unwritten_output()
    sys.exit(code)


if __name__ == "__main__":
    main()

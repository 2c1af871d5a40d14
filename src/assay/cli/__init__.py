"""The command line: one file per subcommand.

Nothing here imports torch at module level, so that help and usage errors answer at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from assay._version import __version__
from assay.cli.bound import bound
from assay.cli.certify import certify
from assay.cli.cost import cost
from assay.cli.highway import highway
from assay.cli.ls import ls
from assay.cli.options import give_back
from assay.cli.report import report
from assay.cli.scale import scale
from assay.cli.steps import steps
from assay.cli.units import units
from assay.cli.verify import verify
from assay.errors import AssayError, CannotMeasure, UsageError, UserCodeError, said, verbatim

INTERRUPTED = 130  # the shell's convention: 128 + SIGINT

_EPILOG = """\
TARGET is path/file.py:name, package.module:name, hf:TYPE or hf:path/to/config.json, where the name is
a function or class that returns a module, (model, inputs), (model, inputs, loss) or an assay.Subject.

Exit codes: 0 nothing found, 1 a finding (or a false claim), 2 wrong usage, 3 something could not be
measured, 4 a malformed certificate, 130 interrupted.
"""


class _ReaderLeft(Exception):
    """Nobody reads standard output any more."""


class _Commands(click.Group):
    """Keeps click from making an exit of its own of a closed pipe: it could not be told from the user's."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand.

        Returns:
            What it returns.

        Raises:
            _ReaderLeft: If its reader has closed the pipe.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderLeft from error


@click.group(
    cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="assay")
def command() -> None:
    """Measure a neural network from first principles, and repair what is found.

    Start with `assay report TARGET --output report.html`; the other commands are its sections alone.
    """


for _subcommand in (report, scale, highway, cost, steps, units, certify, verify, bound, ls):
    command.add_command(_subcommand)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and turn every error that a user can cause into a paragraph.

    Args:
        arguments: The words after `assay`; by default those of the process.

    Returns:
        The exit code.
    """
    words, sys.argv = sys.argv, sys.argv[:1]  # a user's file may parse its own, and would get ours
    try:
        code = command.main(
            args=words[1:] if arguments is None else arguments,
            prog_name="assay",
            standalone_mode=False,
        )
        sys.stdout.flush()  # while a full disk can still be told
        return int(code or 0)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. Nothing was left half-written.", err=True)
        return INTERRUPTED
    except UserCodeError as error:
        return _blame(error)
    except AssayError as error:
        click.echo(f"assay: {error}", err=True)
        return error.exit_code
    except (BrokenPipeError, _ReaderLeft):  # `assay … | head`: the reader has seen enough
        _give_up_output()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            return _admit(error)
        _give_up_output()
        why = f"a place that can be written, but: {error.strerror}"
        failed = UsageError(
            "standard output", verbatim("not all of it written"), why, "Free some space."
        )
        click.echo(f"assay: {failed}", err=True)
        return failed.exit_code
    except Exception as error:
        return _admit(error)
    except BaseException as error:
        # nothing of assay's exits, and the user's sys.exit(0) is no pass
        return _blame(UserCodeError("code", "what was run", error))
    finally:
        sys.argv = words
        give_back()


def _admit(error: Exception) -> int:
    """An error of assay's own: its exit code must not say that something was found in the model."""
    click.echo("".join(traceback.format_exception(error)), err=True)
    click.echo(
        f"assay: {said(error)}. This is an error inside assay, or one that it does not expect: "
        "please report it with the traceback.",
        err=True,
    )
    return CannotMeasure.exit_code


def _blame(error: UserCodeError) -> int:
    click.echo(error.user_traceback(), err=True)
    click.echo(f"assay: {error}", err=True)
    return error.exit_code


def _give_up_output() -> None:
    """What is still buffered goes nowhere, so that the interpreter's last flush cannot fail."""
    with suppress(OSError, ValueError):  # a replaced stdout may have no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_output() -> None:
    """Let text be written wherever standard output leads."""
    if sys.stdout is None:  # `>&-`: whoever closes it wants no text, and the exit code says enough
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (as long as we run)
    if isinstance(sys.stdout, io.TextIOWrapper):  # an encoding that lacks ∝ is no reason to stop
        sys.stdout.reconfigure(errors="replace")


def run() -> None:
    """The console script."""
    _prepare_output()
    sys.exit(main())

"""The command itself: errors become one line, interruptions leave quietly."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

import click

from cnnhw.cli.options import _plain_streams, _plain_warnings
from cnnhw.errors import CnnhwError
from cnnhw.training import distributed

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cnnhw")
def cli() -> None:
    """Train convolutional networks on photographs, and look at what they do.

    Start with `cnnhw train fast`: it needs neither files nor network. With photos of your own in a folder of class
    folders, `cnnhw train best --data FOLDER`.
    """
    if distributed.launched() and click.get_current_context().invoked_subcommand != "train":
        raise click.UsageError("only train runs on several processes: start other commands without torchrun.")


def main() -> None:
    """Run the command line; print errors that cnnhw raises itself, or the system does, as one line and exit with 2."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # the standard streams may be replaced by others
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    os.environ["MPLBACKEND"] = "agg"  # figures go to files alone: no windows, whatever the user has set
    with _plain_streams():
        _run()


def _run() -> None:
    try:
        with _plain_warnings():
            cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CnnhwError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.EPIPE:  # whoever reads has seen enough
            click.echo(f"error: {error}: check the path, its permissions and the free disk space", err=True)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        click.echo("error: there is not enough memory for this: choose a smaller network, size or batch", err=True)
        sys.exit(2)

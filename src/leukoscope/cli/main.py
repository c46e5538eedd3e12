import logging
import os
import sys

import typer

from leukoscope.cli.audit import audit
from leukoscope.cli.classify import classify
from leukoscope.cli.cohort import cohort
from leukoscope.cli.compare import compare
from leukoscope.cli.coverage import coverage
from leukoscope.cli.datasets import datasets
from leukoscope.cli.demo import demo
from leukoscope.cli.embed import embed
from leukoscope.cli.evaluate import evaluate
from leukoscope.cli.explain import explain
from leukoscope.cli.export import export
from leukoscope.cli.finetune import finetune
from leukoscope.cli.fit import fit
from leukoscope.cli.mil import mil
from leukoscope.cli.novelty import novelty
from leukoscope.cli.pack import pack
from leukoscope.cli.pretrain import pretrain
from leukoscope.cli.review import review
from leukoscope.cli.sanity import sanity
from leukoscope.cli.shift import shift
from leukoscope.cli.simulate import simulate
from leukoscope.cli.spoil import spoil
from leukoscope.cli.study import study
from leukoscope.common.errors import LeukoscopeError

app = typer.Typer(
    name="leukoscope",
    help="Turn unlabelled single-cell images into a leukocyte differential.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from leukoscope import __version__

        print(__version__)
        raise typer.Exit


app.command("classify")(classify)
app.command("cohort")(cohort)
app.command("compare")(compare)
app.command("coverage")(coverage)
app.command("datasets")(datasets)
app.command("demo")(demo)
app.command("embed")(embed)
app.command("evaluate")(evaluate)
app.command("explain")(explain)
app.command("finetune")(finetune)
app.command("export")(export)
app.command("fit")(fit)
app.command("mil")(mil)
app.command("novelty")(novelty)
app.command("pack")(pack)
app.command("pretrain")(pretrain)
app.command("review")(review)
app.command("simulate")(simulate)
app.command("spoil")(spoil)
app.command("audit")(audit)
app.command("sanity")(sanity)
app.command("shift")(shift)
app.command("study")(study)


def run() -> None:
    """Run the command line: a user's mistake ends with one line and exit code 2, a failed check with 1."""
    _log_to_stderr()
    try:
        app()
    except LeukoscopeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) left; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _log_to_stderr() -> None:
    """Show the library's log beside the progress; standard output is kept for results."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("leukoscope")
    log.addHandler(handler)
    log.setLevel(logging.INFO)

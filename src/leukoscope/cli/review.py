import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leukoscope.cli.output import say
from leukoscope.common.errors import InputError

if TYPE_CHECKING:
    from leukoscope.review.attention import Attention
    from leukoscope.review.web.desk import Desk


def review(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders of classify.")] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="sqlite:///FILE or postgresql://...; by default a file in the first run."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at; any but loopback takes accounts.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0 takes a free one.", min=0, max=65535)] = 8765,
    proxy: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Believe the proxy at this address where its requests come from."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
    reviewer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who labels, where there are no accounts.")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Hide what the classifier and other reviewers say.")] = False,
    points: Annotated[
        float,
        typer.Option(help="Points of per cent to which the audit must know every share to sign.", min=0.1, max=50),
    ] = 2.0,
    attention: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Sort by the attention of a run of mil, too.")
    ] = None,
    attention_head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model of --attention, as HEAD or ENCODER/HEAD; by default the first."),
    ] = None,
    add_user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make an account, or give it a new role and password, and end.")
    ] = None,
    close_user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let nobody log in by this name any more, and end.")
    ] = None,
    role: Annotated[str, typer.Option(help="reviewer or admin, of --add-user.")] = "reviewer",
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the labels of one run (.csv or .parquet), and end.")
    ] = None,
    agree: Annotated[int, typer.Option(help="How many people must agree on a label of --export.", min=1)] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --export replace a file.")] = False,
) -> None:
    """Look through classified samples, correct their cells and sign their counts, in a web page."""
    folders = runs or []
    if not folders and not ((add_user or close_user) and store):
        raise InputError("RUN: give the run folder of a classified sample; make one with 'leukoscope classify'")
    _require_extra()
    if export:
        _export(folders, store, export, agree, overwrite=overwrite)
        return
    from leukoscope.review.attention import Attention
    from leukoscope.review.serve import open_desk, serve
    from leukoscope.review.store.accounts import add_reviewer, close_account
    from leukoscope.review.store.database import Store

    looked = Attention.read(attention, head=attention_head) if attention else None
    opened = Store.open(store or _store_beside(folders[0]), make=not close_user)
    if add_user:
        add_reviewer(opened, add_user, role, _password(add_user))
        say(f"{add_user}: {role}")
    elif close_user:
        close_account(opened, close_user)
        say(f"{close_user}: closed")
    else:
        desk = open_desk(
            opened, folders, host=host, proxy=proxy, reviewer=reviewer, blind=blind, precision=points / 100,
            attention=looked,
        )  # fmt: skip
        if looked:
            _say_attention(looked, desk)
        serve(desk, host=host, port=port, browser=not no_browser, proxy=proxy)


def _say_attention(looked: "Attention", desk: "Desk") -> None:
    for sample in desk.samples.values():
        of = f"{sample.looked_at:,} of {len(sample.predicted):,} cells"
        say(f"{sample.name}: attention of {looked.encoder}, {looked.head}, for {of}")


def _require_extra() -> None:
    for module in ("fastapi", "uvicorn", "sqlalchemy", "alembic", "argon2", "python_multipart"):
        try:
            import_module(module)
        except ImportError:
            raise InputError(
                f"review needs {module}, which is not installed: pip install 'leukoscope[review]'"
            ) from None


def _store_beside(run: Path) -> str:
    from leukoscope.differential.classify import REVIEW

    if not (run / "sample.json").is_file():
        raise InputError(f"{run}: no classified sample (no sample.json); make one with 'leukoscope classify'")
    return f"sqlite:///{run.resolve() / REVIEW}"


def _password(name: str) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        return str(typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True))
    try:
        line = "" if sys.stdin is None else sys.stdin.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the password of {name} cannot be read from standard input ({error})") from None
    if not line:
        raise InputError(f"the password of {name}: there is no terminal to ask at; give it on standard input")
    return line.rstrip("\n")


def _export(folders: list[Path], url: str | None, out: Path, agree: int, *, overwrite: bool) -> None:
    from leukoscope.common.files import refuse_file
    from leukoscope.differential.classify import REVIEW
    from leukoscope.differential.sample import Sample
    from leukoscope.review.export import labels_of_review
    from leukoscope.review.store.cells import sample_in
    from leukoscope.review.store.database import Store

    if len(folders) != 1:
        raise InputError(f"--export {out}: writes the labels of one run; {len(folders)} are given")
    refuse_file(out, overwrite=overwrite)
    run = folders[0]
    sample = Sample.open(run)
    store = None
    if url is not None or (run / REVIEW).exists():
        store = Store.open(url or _store_beside(run), make=False)
    sample_id = None if store is None else sample_in(store, sample)
    if store is None or sample_id is None:
        raise InputError(f"{run}: nobody has reviewed it in this store; open it with 'leukoscope review'")
    labels = labels_of_review(store, sample_id, agree=agree)
    if labels.table.empty:
        people = "" if agree == 1 else f" by {agree} people"
        raise InputError(f"--export {out}: no label of {run} is agreed upon{people}; nothing is written")
    labels.write(out)
    say(f"{out}: {labels.table['cell_id'].nunique()} cells")

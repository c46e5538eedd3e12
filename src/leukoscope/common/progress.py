import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def progress(description: str, total: int, unit: str = "cells") -> Iterator[Callable[..., None]]:
    """Show how far a long work is: a bar with rate and time left on a terminal, plain lines elsewhere.

    Yields ``advance(n, note="")``: ``n`` units are done; ``note`` is shown beside them (a loss, say).
    Everything goes to standard error, so that standard output stays machine-readable.
    """
    show = _bar if sys.stderr.isatty() else _lines
    with show(description, total, unit) as advance:
        yield advance


@contextmanager
def _lines(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    start = last = time.monotonic()
    done = 0

    def advance(n: int, note: str = "") -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last < _SECONDS_BETWEEN_LINES and done < total:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = (total - done) / max(rate, 1e-9)
        text = f"{description}: {done}/{total} {unit}, {rate:.0f} {unit}/s, {left:.0f} s left"
        print(f"{text}  {note}".rstrip(), file=sys.stderr, flush=True)

    yield advance


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + "  {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, note="", rate="")
        start = time.monotonic()
        done = 0

        def advance(n: int, note: str = "") -> None:
            nonlocal done
            done += n
            rate = f"{done / max(time.monotonic() - start, 1e-9):.0f}/s"
            bar.update(task, advance=n, note=note, rate=rate)

        yield advance

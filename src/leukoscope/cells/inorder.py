from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")


def in_order(
    work: Callable[[list[Work]], Result],
    pieces: Iterable[Work],
    *,
    jobs: int,
    weight: Callable[[Work], int],
    chunk: int,
) -> Iterator[tuple[int, Result]]:
    """Call ``work`` on chunks of ``pieces`` on ``jobs`` threads; yield (pieces in the chunk, result) in their order.

    A chunk is as many pieces as weigh ``chunk`` together.

    A few chunks a thread are in flight and no more, so that memory stays flat however many pieces there are.
    Image decoders let go of Python's lock, so threads are enough and pixels are never copied between processes.
    """
    pending: deque[tuple[int, Future[Result]]] = deque()
    with ThreadPoolExecutor(jobs, thread_name_prefix="pack") as pool:
        try:
            for taken in _chunks(pieces, weight, chunk):
                pending.append((len(taken), pool.submit(work, taken)))
                if len(pending) > 2 * jobs:
                    yield _finished(pending)
            while pending:
                yield _finished(pending)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _chunks(pieces: Iterable[Work], weight: Callable[[Work], int], chunk: int) -> Iterator[list[Work]]:
    taken: list[Work] = []
    total = 0
    for piece in pieces:
        taken.append(piece)
        total += weight(piece)
        if total >= chunk:
            yield taken
            taken, total = [], 0
    if taken:
        yield taken


def _finished(pending: deque[tuple[int, Future[Result]]]) -> tuple[int, Result]:
    count, future = pending.popleft()
    return count, future.result()

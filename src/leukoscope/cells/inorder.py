from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")


def in_order(
    work: Callable[[list[Work]], Result], pieces: Iterable[Work], *, jobs: int, chunk: int
) -> Iterator[tuple[int, Result]]:
    """Call ``work`` on chunks of ``pieces`` on ``jobs`` threads; yield (pieces in the chunk, result) in their order.

    A few chunks a thread are in flight and no more, so that memory stays flat however many pieces there are.
    Image decoders let go of Python's lock, so threads are enough and pixels are never copied between processes.
    """
    pending: deque[tuple[int, Future[Result]]] = deque()
    stream = iter(pieces)
    with ThreadPoolExecutor(jobs, thread_name_prefix="pack") as pool:
        try:
            while taken := list(islice(stream, chunk)):
                pending.append((len(taken), pool.submit(work, taken)))
                if len(pending) > 2 * jobs:
                    yield _finished(pending)
            while pending:
                yield _finished(pending)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finished(pending: deque[tuple[int, Future[Result]]]) -> tuple[int, Result]:
    count, future = pending.popleft()
    return count, future.result()

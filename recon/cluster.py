"""Work on many machines: functions sent to the workers of a dask cluster, a local one by default."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

TIMEOUT = 20.0  # seconds to reach a scheduler


class SchedulerError(OSError):
    """The scheduler cannot be reached."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of one piece of work.

    Attributes:
        name: of the piece.
        value: what the function returned.
        error: why it did not; "" if it did.
    """

    name: str
    value: Any = None
    error: str = ""


def dask_setup(worker: Any) -> None:
    """Ctrl-C in a terminal reaches the workers too: it is for the program that started them."""
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A client of a running scheduler, or of so many worker processes of one thread on this machine.

    Raises:
        SchedulerError: nothing answers at that address.
    """
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SchedulerError(
                f"no dask scheduler answers at {scheduler} ({reason}): start one with `dask scheduler`, and workers "
                "with `dask worker ADDRESS --nthreads 1`"
            ) from None
        with client:
            yield client
        return
    # a worker that dies says so in the record of its scan, not in a traceback
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            preload=["recon.cluster"],
            env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def spread(
    client: Any, function: Callable[..., Any], work: Mapping[str, tuple[Any, ...]]
) -> Iterator[Answer]:
    """Call ``function(*arguments)`` for every piece of work on the workers; answers come as they are done.

    A worker that dies loses its piece to another, at most three times. An error of one piece ends no other. Where the
    caller ends early, on Ctrl-C too, what has not begun is called off.
    """
    from distributed import KilledWorker, as_completed

    futures = {
        client.submit(function, *arguments, pure=False, key=f"recon-{name}-{os.urandom(4).hex()}"): name
        for name, arguments in work.items()
    }
    try:
        for future in as_completed(list(futures), loop=client.loop):
            name = futures[future]
            if future.status == "finished":
                yield Answer(name, future.result())
                continue
            error = future.exception() if future.status == "error" else None
            if isinstance(error, KilledWorker):
                text = (
                    "its worker died, as did those that took it over: perhaps for want of memory; give memory=... or "
                    "fewer workers"
                )
            elif error is None:
                text = f"the scheduler lost it ({future.status}): run the study again"
            else:
                text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            yield Answer(name, error=text)
    finally:
        with suppress(Exception):  # a scheduler that is gone has nothing to call off
            client.cancel(list(futures), force=True)

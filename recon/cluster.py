"""Work on many machines: functions sent to the workers of a dask cluster, a local one by default."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
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
    with (
        LocalCluster(
            n_workers=0, processes=True, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        _worker_processes(cluster.scheduler_address, workers) as log,
    ):
        try:
            client.wait_for_workers(1, timeout=3 * TIMEOUT)
        except TimeoutError:
            said = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
            raise SchedulerError(f"no worker process came up in {3 * TIMEOUT:g} s; it said: {said}") from None
        yield client


@contextmanager
def _worker_processes(scheduler: str, count: int) -> Iterator[Path]:
    """Workers of one thread in processes of their own; yields the file that they write to.

    Commands of their own rather than children made by `multiprocessing`, which would run the user's script once more;
    in a session of their own, for Ctrl-C in a terminal is for the program that started them.
    """
    threads = max(1, (os.cpu_count() or 1) // count)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    # the modules that this program sees, the user's own too, and none that happen to lie in the folder (-P)
    environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    with tempfile.TemporaryDirectory(prefix="recon-workers-", ignore_cleanup_errors=True) as folder:
        command = [
            sys.executable,
            "-P",
            "-m",
            "distributed.cli.dask_worker",
            scheduler,
            "--nthreads",
            "1",
            "--no-dashboard",
        ]
        command += ["--memory-limit", "0", "--death-timeout", "60", "--local-directory", folder]
        log, ending = Path(folder) / "log", threading.Event()
        with log.open("w") as output:

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                )

            def watch() -> None:
                """A worker's own nanny replaces it; a nanny that has given up is replaced here."""
                while not ending.wait(1.0):
                    for place, process in enumerate(processes):
                        if process.poll() is not None:
                            processes[place] = start()

            processes = [start() for _ in range(count)]
            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            try:
                yield log
            finally:
                ending.set()
                watcher.join()
                for end in (subprocess.Popen.terminate, subprocess.Popen.kill):
                    for process in processes:
                        end(process)  # the nanny, with which its worker ends
                    for process in processes:
                        with suppress(subprocess.TimeoutExpired):
                            process.wait(timeout=10)


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

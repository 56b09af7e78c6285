"""Studies on a real cluster of processes: failures, a killed worker, Ctrl-C, and runs that go on where one stopped."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import recon
from recon.cli import main
from recon.cluster import SchedulerError, connected, spread
from recon.study import Scan

STOP = recon.MaxIterations(30)


def problem(seed: int) -> recon.Problem:
    mask = torch.rand(24, 24, generator=torch.Generator().manual_seed(seed)) < 0.7
    op = recon.operator("mask", mask=mask.float())
    truth = torch.zeros(24, 24)
    truth[4 : 12 + seed, 6:18] = 1.0
    made = recon.Problem(op, op.measure(truth, noise="gaussian:std=0.05", seed=seed), reference=truth)
    made.notes = {"unit": "", "source": f"phantom {seed}"}
    return made


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three scans, one of them in a folder inside."""
    for name, seed in (("a", 0), ("b", 1), ("day 2/c", 2)):
        problem(seed).save(tmp_path / f"study/{name}.h5")
    return tmp_path / "study"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes that write their checkpoints ten times a second."""
    with connected(None, 2) as client:
        client.wait_for_workers(2, timeout=60)
        client.run(write_often)
        yield client


def write_often() -> None:
    import recon.checkpoint

    recon.checkpoint.SECONDS_BETWEEN = 0.1


def address(cluster: Any) -> str:
    return str(cluster.scheduler.address)


def test_every_scan_is_solved_as_by_itself(study: Path, tmp_path: Path, cluster: Any) -> None:
    result = recon.solve_all(study, tmp_path / "out", "tv:weight=0.05", stop=STOP, scheduler=address(cluster))
    assert [scan.name for scan in result.scans] == ["a", "b", "day 2/c"]
    assert repr(result).startswith("Study(3 scans: 3 finished, 0 failed, 0 not run")
    for scan in result.scans:
        there = recon.Problem.load(scan.file)
        expected = recon.solve(there, "tv:weight=0.05", stop=STOP)
        found = recon.Solution.load(scan.folder)
        assert torch.equal(found.image, expected.image)
        assert (
            scan.scores["psnr"] == pytest.approx(found.provenance["scan"]["scores"]["psnr"]) and scan.worker
        )
        assert sorted(path.name for path in Path(scan.folder).iterdir()) == ["image.png", "solution.h5"]
    page = (tmp_path / "out/index.html").read_text()
    assert 'href="day%202/c/image.png"' in page and "3 of 3 scans are finished" in page
    book = json.loads((tmp_path / "out/batch.json").read_text())
    assert [row["status"] for row in book["scans"]] == ["finished"] * 3 and not book["interrupted"]
    with (tmp_path / "out/batch.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "b", "day 2/c"] and float(rows[1]["psnr"]) > 20


def times(result: recon.Study) -> dict[str, int]:
    return {scan.name: Path(scan.folder, "solution.h5").stat().st_mtime_ns for scan in result.scans}


def test_what_is_finished_is_not_solved_again(study: Path, tmp_path: Path, cluster: Any) -> None:
    options: dict[str, Any] = {"stop": STOP, "scheduler": address(cluster)}
    before = times(recon.solve_all(study, tmp_path / "out", "tv:weight=0.05", **options))
    offline = recon.solve_all(
        study, tmp_path / "out", "tv:weight=0.05", stop=STOP, scheduler="tcp://127.0.0.1:9"
    )
    assert all(scan.skipped and scan.status == "finished" for scan in offline.scans), "no cluster is needed"
    assert "3 finished (3 of them before)" in repr(offline) and times(offline) == before
    assert offline.scans[0].scores and offline.scans[0].iterations == 30
    problem(7).save(study / "b.h5")
    changed = recon.solve_all(study, tmp_path / "out", "tv:weight=0.05", **options)
    assert [scan.skipped for scan in changed.scans] == [True, False, True], "another file under the same name"
    other = recon.solve_all(study, tmp_path / "out", "tv:weight=0.06", **options)
    assert not any(scan.skipped for scan in other.scans), "other options"
    again = recon.solve_all(study, tmp_path / "out", "tv:weight=0.06", again=True, **options)
    assert not any(scan.skipped for scan in again.scans)


def test_a_scan_that_fails_is_reported_and_the_others_go_on(
    study: Path, tmp_path: Path, cluster: Any
) -> None:
    (study / "b.h5").write_bytes((study / "b.h5").read_bytes()[:3000])
    result = recon.solve_all(study, tmp_path / "out", "tv:weight=0.05", stop=STOP, scheduler=address(cluster))
    assert [scan.status for scan in result.scans] == ["finished", "failed", "finished"]
    assert [scan.name for scan in result.failed] == ["b"]
    assert result.scans[1].error.startswith("FormatError: ") and "is it complete?" in result.scans[1].error
    page = (tmp_path / "out/index.html").read_text()
    assert "is it complete?" in page and "1 of 3 scans have no result: run the study again" in page
    problem(1).save(study / "b.h5")
    mended = recon.solve_all(study, tmp_path / "out", "tv:weight=0.05", stop=STOP, scheduler=address(cluster))
    assert [(scan.status, scan.skipped) for scan in mended.scans] == [
        ("finished", True),
        ("finished", False),
        ("finished", True),
    ]


def test_a_killed_worker_loses_nothing(study: Path, tmp_path: Path, cluster: Any) -> None:
    """SIGKILL in the middle of a scan: another worker goes on from its checkpoint, to the same last bit."""
    stop = recon.MaxIterations(1500)
    results: list[recon.Study] = []

    def work() -> None:
        results.append(
            recon.solve_all(
                [study / "a.h5"], tmp_path / "out", "tv:weight=0.05", stop=stop, scheduler=address(cluster)
            )
        )

    cluster.run(write_often)
    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out/a").glob("run-*.checkpoint")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    pids = cluster.run(os.getpid)
    busy = [worker for worker, keys in cluster.processing().items() if keys]
    assert len(busy) == 1
    os.kill(pids[busy[0]], signal.SIGKILL)
    thread.join(120)
    assert not thread.is_alive()
    scan = results[0].scans[0]
    assert scan.status == "finished" and scan.resumed, "it went on from the checkpoint"
    assert f"process {pids[busy[0]]}" not in scan.worker
    expected = recon.solve(problem(0), "tv:weight=0.05", stop=stop)
    found = recon.Solution.load(tmp_path / "out/a")
    assert torch.equal(found.image, expected.image) and found.iterations == 1500
    assert not list((tmp_path / "out/a").glob("run-*")), "its checkpoint is gone"


def test_ctrl_c_leaves_what_is_done(study: Path, tmp_path: Path, cluster: Any) -> None:
    def interrupt(scan: Scan, done: int, total: int) -> None:
        assert (done, total) == (1, 3)
        raise KeyboardInterrupt

    options: dict[str, Any] = {"stop": STOP, "scheduler": address(cluster)}
    stopped = recon.solve_all(study, tmp_path / "out", "tv:weight=0.05", tell=interrupt, **options)
    assert stopped.interrupted
    assert sorted(scan.status for scan in stopped.scans) == ["finished", "not run", "not run"]
    book = json.loads((tmp_path / "out/batch.json").read_text())
    assert book["interrupted"] and len(book["scans"]) == 3 and (tmp_path / "out/index.html").is_file()
    rest = recon.solve_all(study, tmp_path / "out", "tv:weight=0.05", **options)
    assert sum(scan.skipped for scan in rest.scans) >= 1 and {scan.status for scan in rest.scans} == {
        "finished"
    }


def test_the_command_line(study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With workers of its own, and a file that is none."""
    (study / "notes.h5").write_text("hello")
    call = [
        "batch",
        str(study),
        "-o",
        str(tmp_path / "out"),
        "--prior",
        "tv",
        "--weight",
        "0.05",
        "--workers",
        "1",
    ]
    call += ["--iterations", "20", "--report", "--json"]
    code = main(call)
    shown = capfd.readouterr()
    assert code == 1 and shown.out, shown.err
    answer = json.loads(shown.out)
    assert [scan["status"] for scan in answer["scans"]] == ["finished", "finished", "finished", "failed"]
    assert "4/4" in shown.err and "is not HDF5" in answer["scans"][3]["error"]
    assert (tmp_path / "out/day 2/c/report.html").is_file() and (tmp_path / "out/index.html").is_file()
    (study / "notes.h5").unlink()
    assert main([*call[:-2], "--report"]) == 0
    shown = capfd.readouterr()
    assert shown.out.count("finished before") == 3


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_scan_that_kills_every_worker_fails_alone() -> None:
    """And so does a nanny, the parent of the worker, that goes with it: another takes its place."""
    with connected(None, 1) as client:
        answers = list(spread(client, die, {"deadly": ()}))
        assert [answer.name for answer in answers] == ["deadly"]
        assert answers[0].error.startswith("its worker died, as did those that took it over")
        assert next(iter(spread(client, abs, {"fine": (-1,)}))).value == 1
        nanny = client.run(os.getppid).popitem()[1]
        os.kill(nanny, signal.SIGKILL)
        assert next(iter(spread(client, abs, {"fine": (-2,)}))).value == 2


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(study: Path, tmp_path: Path) -> None:
    """The signal reaches the whole group of processes, workers too: they go on, the command ends in order."""
    code = "import sys; from recon.cli import main; sys.exit(main(sys.argv[1:]))"
    call = [sys.executable, "-c", code, "batch", str(study), "-o", str(tmp_path / "out"), "--prior", "tv"]
    call += ["--weight", "0.05", "--workers", "1", "--iterations", "200000", "--tolerance", "1e-30"]
    process = subprocess.Popen(call, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out/a").is_dir():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert json.loads((tmp_path / "out/batch.json").read_text())["interrupted"]


@pytest.mark.parametrize(
    ("study", "error", "message"),
    [
        ("nowhere", FileNotFoundError, "the study .*nowhere is not there"),
        ("file.h5", FileNotFoundError, "is a file: name its folder"),
        (".", ValueError, "results cannot go into the study itself"),
        ("empty", FileNotFoundError, "holds no problem file .* makes one"),
    ],
)
def test_what_is_no_study_is_refused(
    study: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.h5").write_text("")
    with pytest.raises(error, match=message):
        recon.solve_all(tmp_path / study, tmp_path / "out")


def test_errors_of_all_scans_come_before_any_work(study: Path, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="unknown prior 'tw'"):
        recon.solve_all(study, tmp_path / "out", "tw")
    with pytest.raises(ValueError, match="two scans are called a"):
        recon.solve_all([study / "a.h5", study / "a.h5"], tmp_path / "out", "tv")
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_is_not_there(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.cluster.TIMEOUT", 1.0)
    with pytest.raises(
        SchedulerError, match=r"no dask scheduler answers at tcp://127.0.0.1:9 .* `dask scheduler`"
    ):
        recon.solve_all(study, tmp_path / "out", "tv", scheduler="tcp://127.0.0.1:9")

"""How far a stage is, where stderr is no terminal: lines now and then, with an estimate of the time left."""

import io

import pytest
from rich.console import Console

from argyase.stages import _run


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    log = io.StringIO()
    monkeypatch.setattr(_run, "console", Console(file=log, width=20))
    return log


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_run.time, "monotonic", clock.monotonic)
    return clock


def test_a_line_each_minute(log: io.StringIO, clock: Clock) -> None:
    with _run.progress("auto", "site_energies of 49 sites") as report:
        for done in range(5):
            clock.now += 50
            report(done, 49)
    # At 0 nothing is known yet; the first 50 s, before it, are not those of a site.
    assert log.getvalue().splitlines() == [
        "site_energies of 49 sites  2.0 %, some 0:40:00 left",
        "site_energies of 49 sites  6.1 %, some 0:38:20 left",
    ]


def test_what_was_done_before_does_not_count_as_fast(log: io.StringIO, clock: Clock) -> None:
    """A run that goes on from 80 % after a kill."""
    with _run.bars() as bars:
        job = bars.add_task("600 K", total=None, start=False)
        waits = bars.add_task("700 K", total=None, start=False)
        bars.start_task(job)
        bars.update(job, total=None, completed=0)
        bars.update(job, total=1000, completed=800)
        clock.now += 100
        bars.update(job, total=1000, completed=850, speed="625.0 ns/day")
        clock.now += 100
        bars.update(job, total=1000, completed=1000)
        bars.start_task(waits)
        bars.update(waits, total=1000, completed=0)
    assert log.getvalue().splitlines() == [
        "600 K  85.0 %, some 0:05:00 left  625.0 ns/day",
        "700 K  0.0 %",
    ]


def test_nothing_for_what_is_over_soon(log: io.StringIO) -> None:
    with _run.progress("auto", "md") as report:
        for done in range(11):
            report(done, 10)
    assert log.getvalue() == ""

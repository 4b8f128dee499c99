"""What an actor of a cluster's tells and refuses, without a cluster."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.engines import scorer as module
from jobs.engines.scorer import Said, Scorer, Told
from pipeline.errors import ConfigError
from pipeline.layout import RUN
from pipeline.storage.memory import MemoryStorage


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scorer]:
    """One in this process, which it would take the streams of."""
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.StringIO())
    yield Scorer(1)
    monkeypatch.undo()


def seen(*, model: Path | str = "s3://models/m.keras", shards: tuple[str, ...] = ()) -> Any:
    """A survey of a job, as far as is looked at here."""
    job = SimpleNamespace(model=str(model))
    at_hand = [SimpleNamespace(path=path) for path in shards]
    surveyed = SimpleNamespace(job=job, shards_at_hand=at_hand, output=MemoryStorage())
    return SimpleNamespace(surveyed=surveyed, score=lambda order: ("done", order))


def test_each_whole_line_that_is_printed_is_told_and_passed_on() -> None:
    stream, told = io.StringIO(), []
    said = Said(stream, told.append)
    for text in ("first", " line\n\n", "second line  \nthi", "rd\n", "no end"):
        assert said.write(text) == len(text)
    said.flush()
    assert told == [("said", "first line"), ("said", "second line"), ("said", "third")]
    assert stream.getvalue() == "first line\n\nsecond line  \nthird\nno end"


def test_where_c_code_writes_to_stays_the_streams_own() -> None:
    with Path("/dev/null").open("w") as stream:
        assert Said(stream, lambda _: None).fileno() == stream.fileno()


def test_what_is_printed_in_an_actor_travels_with_its_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.StringIO())
    scorer = Scorer(1)
    sys.stdout.write("loading\n")
    sys.stderr.write("careful\n")
    assert scorer.told(0, 0.0) == (
        0,
        [Told(0, ("said", "loading")), Told(0, ("said", "careful"))],
    )
    assert scorer.up().startswith("node ")


@pytest.mark.parametrize(
    ("error", "word"),
    [(ZeroDivisionError("by nought"), "bug"), (SystemExit(3), "left")],
    ids=["what nobody expected", "an end of the process"],
)
def test_an_order_that_raises_is_answered(
    error: BaseException, word: str, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises() -> None:
        raise error

    monkeypatch.setattr(scorer, "warm", raises)
    reply = scorer.prepare(4, b"", None)
    assert reply.answer[0] == word


def test_a_node_that_does_not_see_the_files_of_a_job_is_refused(
    scorer: Scorer, tmp_path: Path
) -> None:
    here, gone = tmp_path / "m.keras", tmp_path / "gone.keras"
    here.touch()
    scorer._refuse_unseen(seen())
    scorer._refuse_unseen(seen(model=here, shards=("s3://lake/a.parquet", str(gone))))
    for service in (seen(model=gone), seen(model=here, shards=(str(gone),))):
        with pytest.raises(ConfigError, match="does not see what this machine sees") as caught:
            scorer._refuse_unseen(service)
        assert caught.value.path == str(gone)


def test_a_node_that_sees_another_output_is_refused_before_it_scores(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHE_SECONDS", 0.0)
    drivers, service = MemoryStorage(), seen()
    drivers.create(RUN, b"the run of tonight")
    begun = drivers.info(RUN)
    for there, received in ((None, "nothing is there"), (b"of last night", "another file")):
        if there is not None:
            service.surveyed.output.create(RUN, there)
        with pytest.raises(ConfigError, match="does not see the output") as caught:
            scorer._refuse_other_output(service, begun)
        assert caught.value.received == received


def test_a_node_that_sees_the_output_late_scores(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = seen()
    output = service.surveyed.output
    output.create(RUN, b"the run of tonight")
    begun = output.info(RUN)
    output.delete(RUN)
    waited: list[float] = []

    def appears(seconds: float) -> None:
        waited.append(seconds)
        monkeypatch.setattr(output, "info", lambda _: begun)

    monkeypatch.setattr(module.time, "sleep", appears)
    monkeypatch.setattr(scorer, "_service", service)
    assert scorer.score(1, "unit 7", begun).answer == ("done", "unit 7")  # type: ignore[arg-type]
    assert len(waited) == 1

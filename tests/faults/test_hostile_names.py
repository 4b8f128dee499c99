"""Names as attacks: links that lead out, names that drive a terminal, names no disk can hold."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.discover import Discovery, discover
from pipeline.errors import (
    AlreadyExistsError,
    ContractError,
    NoInputError,
    StorageError,
    UsageError,
)
from pipeline.progress import Bar, observer_for
from pipeline.records import FailedShard, Outcome
from pipeline.storage import LocalStorage
from tests.conftest import Finished
from tests.faults import arithmetic
from tests.faults.lake import GROUP_ROWS, contents

Cli = Callable[..., Finished]

TABLE = pa.table(
    {"a": pa.array([1.0, None, 3.0], pa.float32()), "b": pa.array([1.0] * 3, pa.float32())}
)
DRIVING = "\x1b]0;owned\x07\x1b[2J\nerror: all is well\t\r\u202e"
"""A title for the terminal, a cleared screen, a line that looks like ours, text that runs back."""


def write(path: Path, table: pa.Table = TABLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A folder with one sound shard, `good.parquet`."""
    return write(tmp_path / "lake" / "good.parquet").parent


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside of the lake and of the output, with one file."""
    return write(tmp_path / "elsewhere" / "theirs.parquet").parent


def found(*inputs: object, follow_links: bool = False, output: object = "/nowhere") -> Discovery:
    return discover(map(str, inputs), str(output), follow_links=follow_links)


def names(discovery: Discovery) -> list[str]:
    return [shard.name for shard in discovery.shards]


def the_failed(discovery: Discovery) -> FailedShard:
    """The one shard that failed, where the sound one was found."""
    assert names(discovery) == ["good.parquet"]
    (failed,) = discovery.failed
    return failed


# Links in an input


@pytest.mark.parametrize("glob", ["", "*", "**", "*.parquet"])
def test_a_file_link_out_of_the_input_is_a_failed_shard(
    lake: Path, elsewhere: Path, glob: str
) -> None:
    (lake / "link.parquet").symlink_to(elsewhere / "theirs.parquet")
    failed = the_failed(found(lake / glob))
    assert (failed.name, failed.path) == ("link.parquet", str(lake / "link.parquet"))
    assert isinstance(failed.error, ContractError)
    assert failed.error.received == f"a link to {elsewhere / 'theirs.parquet'}"
    assert "--follow-links" in (failed.error.hint or "")


@pytest.mark.parametrize("glob", ["", "*"])
def test_a_folder_link_out_of_the_input_is_one_failed_shard(
    lake: Path, elsewhere: Path, glob: str
) -> None:
    write(elsewhere / "more" / "b.parquet")
    (lake / "link").symlink_to(elsewhere)
    failed = the_failed(found(lake / glob))
    assert failed.name == "link"
    assert failed.error.received == f"a link to {elsewhere}"


def test_a_glob_does_not_reach_through_a_link_either(lake: Path, elsewhere: Path) -> None:
    (lake / "link").symlink_to(elsewhere)
    discovery = found(lake / "*" / "*.parquet")
    assert discovery.shards == ()
    assert [failed.name for failed in discovery.failed] == ["link/theirs.parquet"]


def test_links_out_of_the_input_are_followed_on_demand(lake: Path, elsewhere: Path) -> None:
    write(elsewhere.parent / "other.parquet")
    (lake / "link").symlink_to(elsewhere)
    (lake / "other.parquet").symlink_to(elsewhere.parent / "other.parquet")
    expected = ["good.parquet", "link/theirs.parquet", "other.parquet"]
    for given in (lake, lake / "**" / "*.parquet"):
        discovery = found(given, follow_links=True)
        assert (names(discovery), discovery.failed) == (expected, ())


def test_an_input_that_is_a_link_is_what_the_user_named(
    lake: Path, elsewhere: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").symlink_to(elsewhere)
    (tmp_path / "file.parquet").symlink_to(elsewhere / "theirs.parquet")
    assert names(found(tmp_path / "folder")) == ["theirs.parquet"]
    assert names(found(tmp_path / "folder" / "*.parquet")) == ["theirs.parquet"]
    assert names(found(tmp_path / "file.parquet")) == ["file.parquet"]


def test_a_mounted_configmap_is_a_folder_of_files(tmp_path: Path) -> None:
    # Kubernetes swaps `..data` to bring a new version in, all files at once.
    lake = write(tmp_path / "lake" / "..2013_01_01" / "a.parquet").parent.parent
    (lake / "..data").symlink_to("..2013_01_01")
    (lake / "a.parquet").symlink_to("..data/a.parquet")
    discovery = found(lake)
    assert (names(discovery), discovery.failed) == (["a.parquet"], ())


def test_a_link_to_the_output_is_no_input(lake: Path, tmp_path: Path) -> None:
    write(tmp_path / "out" / "good.parquet")
    (lake / "results").symlink_to(tmp_path / "out")
    (lake / "one.parquet").symlink_to(tmp_path / "out" / "good.parquet")
    discovery = found(lake, output=tmp_path / "out")
    assert (names(discovery), discovery.failed) == (["good.parquet"], ())


def test_two_links_to_one_place_outside_are_each_named(lake: Path, elsewhere: Path) -> None:
    for name in ("one", "two"):
        (lake / name).symlink_to(elsewhere)
        (lake / f"{name}.parquet").symlink_to(elsewhere / "theirs.parquet")
    failed = found(lake).failed
    assert [shard.name for shard in failed] == ["one", "one.parquet", "two", "two.parquet"]


@pytest.mark.parametrize("target", ["/", "..", "../..", "x" * 300, "\x1b[2J" * 9, "/dev/zero"])
def test_a_link_to_an_odd_place_fails_alone(lake: Path, target: str) -> None:
    (lake / "link.parquet").symlink_to(target)
    failed = the_failed(found(lake))
    assert failed.name == "link.parquet"
    assert all(line.isprintable() for line in str(failed.error).splitlines())


def test_links_in_a_circle_end(lake: Path) -> None:
    (lake / "a.parquet").symlink_to("b.parquet")
    (lake / "b.parquet").symlink_to("a.parquet")
    (lake / "round").symlink_to(".")
    discovery = found(lake)
    assert names(discovery) == ["good.parquet"]
    assert [failed.name for failed in discovery.failed] == ["a.parquet", "b.parquet"]


# Names


ODD = {
    "dashes": "--output=x.parquet",
    "a glob": "*[a]?.parquet",
    "spaces": "  a b  .parquet",
    "dots": "a..parquet",
    "backslashes": "a\\..\\b.parquet",
    "a URL": "s3:x.parquet",
    "per cent": "%2e%2e%2fa.parquet",
    "composed": "caf\u00e9.parquet",
    "decomposed": "cafe\u0301.parquet",
    "a look-alike": "g\u043e\u043ed.parquet",
    "controls": f"{DRIVING}.parquet",
    "the longest": "n" * 247 + ".parquet",
}


@pytest.fixture
def scored(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs a command, with arithmetic in the place of the model; rows with nulls are bad."""
    monkeypatch.setenv("GROUP_ROWS", str(GROUP_ROWS))
    arithmetic.install(monkeypatch.setattr)
    monkeypatch.setattr("pipeline.model.load", arithmetic.load)  # `plan` finds it there
    model = tmp_path / "model.keras"
    model.write_bytes(b"arithmetic")
    return lambda verb, *more: cli(
        verb,
        *("--model", model, "--input", tmp_path / "lake", "--output", tmp_path / "out"),
        *("--batch-size", 2, "--on-bad-row", "quarantine", *more),
    )


def test_odd_names_are_scored_to_files_of_the_same_names(
    lake: Path, tmp_path: Path, scored: Cli
) -> None:
    for name in ODD.values():
        write(lake / name)
    done = scored("score", "--checkpoint-every", 0)
    assert done.code == 0, done.err
    published = {path.name for path in (tmp_path / "out").glob("*.parquet")}
    assert published == {"good.parquet", *ODD.values()}
    letters = {path.name for path in (tmp_path / "out" / "_shardscore" / "quarantine").iterdir()}
    assert letters == published


def test_a_name_that_is_not_utf8_fails_alone(lake: Path, tmp_path: Path, scored: Cli) -> None:
    name = os.fsdecode(b"latin-\xe9.parquet")  # which pyarrow cannot write to
    (lake / name).write_bytes((lake / "good.parquet").read_bytes())
    done = scored("score")
    assert done.code == 65
    assert r"latin-\udce9.parquet" in done.err
    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == ["good.parquet"]


def printed(done: Finished) -> list[str]:
    """The lines that a command printed, none of which holds a control character."""
    lines = (done.out + done.err).split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert not any(line.startswith("error: all is well") for line in lines)
    return lines


def test_no_command_prints_a_control_character(
    lake: Path, elsewhere: Path, tmp_path: Path, scored: Cli, cli: Cli
) -> None:
    write(lake / f"{DRIVING}fine.parquet")
    (lake / f"{DRIVING}damaged.parquet").write_bytes(b"PAR1" + b"\x1b[2J" * 9)
    (lake / f"{DRIVING}link.parquet").symlink_to(elsewhere / "theirs.parquet")
    write(lake / f"{DRIVING}column.parquet", TABLE.rename_columns(["a", f"{DRIVING}b"]))
    for verb in ("plan", "score", "plan"):
        done = scored(verb)
        assert done.code == 65, done.err
        assert len(printed(done)) > 10
    (lake / f"{DRIVING}fine.parquet").touch()
    for done in (
        scored("plan", "--no-model"),
        scored("score", "--log-format", "json"),
        cli("status", tmp_path / "out"),
        cli("verify", tmp_path / "out"),
        scored("score", "--input", tmp_path / DRIVING),
        scored("score", "--config", tmp_path / DRIVING),
        scored("score", "--keep", DRIVING),
        scored("score", f"--{DRIVING}"),
        cli("status", tmp_path / DRIVING),
    ):
        printed(done)


def test_two_inputs_of_one_name_are_refused_and_both_are_named(
    lake: Path, elsewhere: Path, scored: Cli
) -> None:
    write(elsewhere / "good.parquet")
    done = scored("score", "--input", elsewhere)
    assert done.code == 64
    assert str(lake / "good.parquet") in done.err
    assert str(elsewhere / "good.parquet") in done.err


@pytest.mark.parametrize("name", ["n" * 300 + ".parquet", "n" * 300, "d/" * 400 + "n" * 3500])
def test_an_input_that_no_disk_can_hold_does_not_exist(lake: Path, name: str) -> None:
    for given in (lake / name, lake / "*" / name):
        with pytest.raises(NoInputError):
            found(given)


def test_folders_too_deep_for_a_path_fail_alone(lake: Path) -> None:
    handle = os.open(lake, os.O_PATH)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=handle)
        below = os.open("d" * 250, os.O_PATH, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    failed = the_failed(found(lake))
    assert failed.name.startswith("d" * 250)
    assert "longer than the system takes" in failed.error.message


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "", "a//b", "./a", "a\0b"])
def test_no_name_leads_out_of_a_storage(tmp_path: Path, name: str) -> None:
    storage = LocalStorage(tmp_path / "out")
    for act in (storage.stage, storage.delete, storage.read, storage.info):
        with pytest.raises(UsageError):
            act(name)


# Links in an output


@pytest.fixture
def planted(tmp_path: Path, elsewhere: Path) -> LocalStorage:
    """An output in which `sub` is a link out of it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(elsewhere)
    return LocalStorage(tmp_path / "out")


ACTS: dict[str, Callable[[LocalStorage, str], None]] = {
    "create": lambda storage, name: storage.create(name, b"x"),
    "replace": lambda storage, name: storage.replace(name, b"x"),
    "delete": lambda storage, name: storage.delete(name),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("name", ["sub/a", "sub/theirs.parquet", "sub/new/a"])
def test_nothing_is_written_or_deleted_through_a_link_out_of_the_output(
    planted: LocalStorage, elsewhere: Path, act: Callable[[LocalStorage, str], None], name: str
) -> None:
    before = (elsewhere / "theirs.parquet").read_bytes()
    with pytest.raises(StorageError, match="leads out of it") as caught:
        act(planted, name)
    assert caught.value.path == f"{planted.url}/sub"
    assert caught.value.received == f"a link to {elsewhere}"
    assert [path.name for path in elsewhere.iterdir()] == ["theirs.parquet"]
    assert (elsewhere / "theirs.parquet").read_bytes() == before


@pytest.mark.parametrize("folder", ["staging", "locks", "."])
def test_nothing_is_staged_or_locked_through_a_link_out_of_the_output(
    tmp_path: Path, elsewhere: Path, folder: str
) -> None:
    output = tmp_path / "out"
    link = output / "_shardscore" / folder
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    storage = LocalStorage(output)
    if folder != "locks":
        with pytest.raises(StorageError, match="leads out of it"):
            storage.stage("a")
        with pytest.raises(StorageError, match="leads out of it"):
            storage.sweep()
    if folder != "staging":
        with pytest.raises(StorageError, match="leads out of it"):
            storage.hold("x").__enter__()
    assert [path.name for path in elsewhere.iterdir()] == ["theirs.parquet"]


def test_a_link_within_the_output_is_followed(tmp_path: Path) -> None:
    (tmp_path / "out" / "2013").mkdir(parents=True)
    (tmp_path / "out" / "latest").symlink_to("2013")
    storage = LocalStorage(tmp_path / "out")
    storage.create("latest/new/a", b"x")
    assert (tmp_path / "out" / "2013" / "new" / "a").read_bytes() == b"x"
    storage.delete("latest/new/a")
    assert not (tmp_path / "out" / "2013" / "new").exists()


def test_the_output_itself_may_be_a_link(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "out").symlink_to(elsewhere)
    LocalStorage(tmp_path / "out").create("sub/a", b"x")
    assert (elsewhere / "sub" / "a").read_bytes() == b"x"


def test_links_in_a_circle_are_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to("sub")
    with pytest.raises(StorageError):
        LocalStorage(tmp_path / "out").create("sub/a", b"x")


def test_a_link_under_a_final_name_is_never_written_through(
    tmp_path: Path, elsewhere: Path
) -> None:
    storage = LocalStorage(tmp_path / "out")
    storage.create("other", b"")
    for target in (elsewhere / "theirs.parquet", elsewhere / "nothing"):
        before = sorted(elsewhere.iterdir())
        (tmp_path / "out" / "a").symlink_to(target)
        with pytest.raises(AlreadyExistsError):
            storage.create("a", b"x")
        storage.replace("a", b"x")  # the link goes, not what it leads to
        assert not (tmp_path / "out" / "a").is_symlink()
        assert sorted(elsewhere.iterdir()) == before
        storage.delete("a")
    assert pq.read_table(elsewhere / "theirs.parquet").equals(TABLE)


@pytest.mark.parametrize("where", ["sub", "_shardscore/quarantine", "_shardscore/checkpoints"])
def test_a_run_writes_nothing_through_a_planted_link(
    lake: Path, elsewhere: Path, tmp_path: Path, scored: Cli, where: str
) -> None:
    write(lake / "sub" / "a.parquet")
    link = tmp_path / "out" / where
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    done = scored("score", "--checkpoint-every", 0)
    assert done.code == 74, done.err
    assert str(link) in done.err
    assert str(elsewhere) in done.err
    assert [path.name for path in elsewhere.iterdir()] == ["theirs.parquet"]
    link.unlink()
    assert scored("score", "--checkpoint-every", 0).code == 0


@pytest.mark.parametrize("target", ["theirs.parquet", "text", "nothing"])
def test_a_run_tells_a_planted_file_as_not_its_own(
    lake: Path, elsewhere: Path, tmp_path: Path, scored: Cli, target: str
) -> None:
    (elsewhere / "text").write_text("a secret")
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "good.parquet").symlink_to(elsewhere / target)
    done = scored("score")
    assert done.code in {73, 74}, (done.code, done.err)
    assert "good.parquet" in done.err
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before
    assert "a secret" not in done.out + done.err
    (tmp_path / "out" / "good.parquet").unlink()
    assert scored("score").code == 0
    assert "good.parquet" in contents(LocalStorage(tmp_path / "out"))


@pytest.mark.parametrize("log_format", ["text", "json", "bar"])
def test_no_observer_shows_a_control_character(log_format: str) -> None:
    out = io.StringIO()
    observer = (
        Bar(out) if log_format == "bar" else observer_for(log_format, quiet=False, stream=out)
    )
    error = ContractError(f"column {DRIVING}", path=DRIVING, column=DRIVING, received=DRIVING)
    observer.event("note", f"a note on {DRIVING}", shard=DRIVING)
    observer.shard(Outcome(DRIVING, "failed", error=error))
    assert [line for line in out.getvalue().split("\n") if not line.isprintable()] == []
    assert out.getvalue().count("owned") >= 4

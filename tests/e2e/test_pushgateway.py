"""Telling a Pushgateway: what is sent where, and that one that fails is never waited for long."""

from __future__ import annotations

import base64

import pytest

from jobs import pushgateway
from jobs.pushgateway import Pushgateway
from tests.e2e.gateways import Answering, serving

TEXT = "# TYPE shardscore_exit_code gauge\nshardscore_exit_code 0\n"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_the_group_is_the_job_and_the_labels() -> None:
    with serving(Answering()) as server:
        gateway = Pushgateway(server.address + "/behind/")
        labels = {"name": "flights", "shard_index": "3"}
        assert gateway.tell(TEXT, labels, last=True) is None
    (told,) = server.told
    assert told.path == "/behind/metrics/job/shardscore/name/flights/shard_index/3"
    assert (told.method, told.body) == ("POST", TEXT)
    assert told.headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_a_name_and_a_password_are_sent_and_never_shown() -> None:
    with serving(Answering(status=401)) as server:
        address = server.address.replace("://", "://me:open%3Asesame@")
        gateway = Pushgateway(address)
        problem = gateway.tell(TEXT, {}, last=True)
    (told,) = server.told
    assert told.headers["Authorization"] == "Basic " + base64.b64encode(b"me:open:sesame").decode()
    assert gateway.shown == server.address
    assert problem is not None
    assert "401" in problem
    assert "sesame" not in problem


def test_what_the_gateway_has_against_it_is_said() -> None:
    with serving(Answering(status=400, body="pushed metrics are inconsistent\n")) as server:
        problem = Pushgateway(server.address).tell(TEXT, {}, last=True)
    assert problem == "it answers 400 Bad Request: pushed metrics are inconsistent"


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_taken_for_a_push(status: int) -> None:
    with serving(Answering()) as other:
        answer = Answering(status=status, headers={"Location": other.address + "/elsewhere"})
        with serving(answer) as server:
            problem = Pushgateway(server.address).tell(TEXT, {}, last=True)
    assert other.told == []
    assert problem is not None
    assert str(status) in problem


def test_no_one_waits_while_there_is_work_and_pushes_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pushgateway, "SOCKET_SECONDS", 60.0)
    monkeypatch.setattr(pushgateway, "LAST_SECONDS", 0.2)
    with serving(Answering(silent=True)) as server:
        gateway = Pushgateway(server.address)
        assert gateway.tell(TEXT, {}, last=False) is None  # it has not answered, nor will it
        assert server.heard.wait(30)
        assert gateway.tell(TEXT, {}, last=False) is None
        assert gateway.tell(TEXT, {}, last=True) == "it does not answer"
        assert len(server.told) == 1


def test_the_last_push_is_sent_behind_one_that_is_under_way() -> None:
    with serving(Answering()) as server:
        gateway = Pushgateway(server.address)
        gateway.tell("a", {}, last=False)
        assert gateway.tell("b", {}, last=True) is None
    assert [told.body for told in server.told] == ["a", "b"]


def test_a_gateway_that_is_not_there_is_a_problem_in_one_line() -> None:
    with serving(Answering()) as server:
        pass
    problem = Pushgateway(server.address).tell(TEXT, {}, last=True)
    assert problem is not None
    assert "refused" in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    "address",
    [
        "",
        "gateway:9091",
        "ftp://gateway",
        "http://",
        "http://[",
        "http://gateway:port",
        "http://me:pass/word@gateway:9091",
        "http://gateway:9091/?job=a",
        "http://gateway:9091/metrics/job/mine",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ValueError, match="is wanted") as caught:
        Pushgateway(address)
    assert "pass" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None

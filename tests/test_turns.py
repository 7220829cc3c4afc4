"""The queue is bounded and fair, and says so in words."""

import asyncio
from types import SimpleNamespace

import pytest

from detector import turns
from detector.turns import FULL, FULL_EACH, WAITING_EACH, be_fair


def make_event(visitor: str, address: str = "1.2.3.4", host: str = "127.0.0.1") -> SimpleNamespace:
    request = SimpleNamespace(
        headers={"x-forwarded-for": address}, client=SimpleNamespace(host=host)
    )
    return SimpleNamespace(session_hash=visitor, request=request, concurrency_id="network")


class Queue:
    """What of gradio's queue is used, serving whoever came first."""

    def __init__(self, most: int = 32) -> None:
        self.line = SimpleNamespace(queue=[], concurrency_limit=2)
        self.event_queue_per_concurrency_id = {"network": self.line}
        self.active_jobs: list[list[SimpleNamespace] | None] = [None] * 4
        self.most = most

    async def push(self, *, body: SimpleNamespace, request: object, username: object) -> tuple:
        if len(self.line.queue) >= self.most:
            return False, f"Queue is full. Max size is {self.most}", "queue_full"
        self.line.queue.append(make_event(body.session_hash))
        return True, "id", "success"

    def get_events(self) -> tuple | None:
        if not self.line.queue:
            return None
        return [self.line.queue.pop(0)], False, "network"

    def start(self) -> str | None:
        """Run whoever is next; who that is."""
        chosen = self.get_events()
        if chosen is None:
            return None
        self.active_jobs[self.active_jobs.index(None)] = chosen[0]
        return chosen[0][0].session_hash


def push(queue: Queue, visitor: str) -> tuple:
    event = make_event(visitor)
    body = SimpleNamespace(session_hash=visitor)
    return asyncio.run(queue.push(body=body, request=event.request, username=None))


def test_one_visitor_cannot_hold_all_places() -> None:
    queue = Queue()
    be_fair(queue)
    for visitor in ["greedy"] * 4 + ["patient"]:
        push(queue, visitor)
    assert [queue.start() for _ in range(3)] == ["greedy", "patient", None]
    assert len(queue.line.queue) == 3
    queue.active_jobs[0] = None
    assert queue.start() == "greedy"


def test_a_full_queue_says_so_in_words() -> None:
    queue = Queue(most=2)
    be_fair(queue)
    assert [push(queue, str(number))[1] for number in range(3)] == ["id", "id", FULL]


def test_one_visitor_cannot_fill_the_queue() -> None:
    queue = Queue()
    be_fair(queue)
    told = [push(queue, "greedy") for _ in range(WAITING_EACH + 1)]
    assert told[-1] == (False, FULL_EACH, "queue_full")
    assert push(queue, "another")[0]


def test_on_a_space_a_new_session_is_no_new_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "a/space")
    one, two = make_event("a"), make_event("b")
    other = make_event("a", "5.6.7.8, 1.2.3.4")
    assert turns._visitor_of(one) == turns._visitor_of(two) == "1.2.3.4"
    assert turns._visitor_of(other) == "5.6.7.8"


def test_who_comes_over_the_network_is_known_by_address() -> None:
    assert turns._visitor_of(make_event("a")) == "a"
    assert turns._visitor_of(make_event("a", host="10.0.0.7")) == "10.0.0.7"


def test_gradios_queue_has_what_is_made_fair() -> None:
    """Its names are not promised: this fails when they change."""
    from gradio.queueing import EventQueue, Queue

    assert {"push", "get_events"} <= set(dir(Queue))
    line = EventQueue("network", 2)
    assert line.queue == []
    assert line.concurrency_limit == 2

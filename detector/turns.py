"""Make gradio's queue fair between visitors, and explain when it is full.

Gradio serves calls in order, so one visitor with many calls would keep all others waiting. Here
one visitor cannot occupy all slots of a concurrency group, and has a limit on waiting calls.
"""

import os
from collections import Counter
from typing import Any

WAITING_EACH = 8  # calls of one visitor that may wait

FULL = (
    "Too many visitors are waiting now, so nothing was checked. Please try again in a few "
    "minutes, or run Unmask on your own machine."
)
FULL_EACH = (
    f"{WAITING_EACH} of your calls are waiting already. Please wait for their answers, and send "
    "this one again."
)


def be_fair(queue: Any) -> None:
    """Replace the queue's `push` and `get_events` by fair versions."""
    push, get_events = queue.push, queue.get_events

    async def push_fairly(*, body: Any, request: Any, username: str | None) -> Any:
        own = name_visitor(body.session_hash, request)
        lines = queue.event_queue_per_concurrency_id.values()
        waiting = sum(_visitor_of(event) == own for line in lines for event in line.queue)
        if waiting >= WAITING_EACH:
            return False, FULL_EACH, "queue_full"
        accepted, message, state = await push(body=body, request=request, username=username)
        return accepted, FULL if state == "queue_full" else message, state

    def get_events_fairly() -> Any:
        running = Counter(
            (event.concurrency_id, _visitor_of(event))
            for job in queue.active_jobs
            if job
            for event in job
        )
        waiting: dict[str, list[Any]] = {}
        for key, line in queue.event_queue_per_concurrency_id.items():
            limit = max(1, (line.concurrency_limit or len(queue.active_jobs)) - 1)
            waiting[key], line.queue = line.queue, [
                event for event in line.queue if running[key, _visitor_of(event)] < limit
            ]  # fmt: skip
        try:
            chosen = get_events()  # of those that may run now
        finally:
            for key, line in queue.event_queue_per_concurrency_id.items():
                line.queue = waiting[key]
        if chosen:
            for event in chosen[0]:
                waiting[chosen[2]].remove(event)
        return chosen

    queue.push, queue.get_events = push_fairly, get_events_fairly


def _visitor_of(event: Any) -> str:
    return name_visitor(event.session_hash, event.request)


def name_visitor(session: str | None, request: Any) -> str:
    """Identify a visitor by address, or by session if they are on this machine."""
    address = request.client.host if request.client else ""
    if "SPACE_ID" in os.environ:
        forwarded = request.headers.get("x-forwarded-for", "")
        return forwarded.partition(",")[0].strip() or address
    return address if is_public(request) else session or address


def is_public(request: Any) -> bool:
    """Whether a request comes from another machine."""
    return "SPACE_ID" in os.environ or not (
        request.client and request.client.host in ("127.0.0.1", "::1", "localhost")
    )

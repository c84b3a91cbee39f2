"""Many clients at a stated, sustained rate: what locust is told to do.

Every user asks at the same mean pace, so the rate climbs with the users and then stays: `--users`
of them are started over the ramp, and together they ask `--request-rate` times a second. A failure
is anything but a complete answer with the right status and length.
"""

import random
import time
from argparse import ArgumentParser

from locust import FastHttpUser, events, task
from locust.env import Environment

from loadtest.workloads import MUCH, POST, SMALL, SOME
from loadtest.wrk import Requests

# How often each workload is chosen, relative to the others: mostly small things, as at an edge.
WEIGHT_SMALL = 12
WEIGHT_POST = 4
WEIGHT_16K = 3
WEIGHT_1M = 1


def add_request_rate(parser: ArgumentParser) -> None:
    """Teach locust the option that says how often all users together ask."""
    parser.add_argument(
        "--request-rate", type=float, required=True, help="requests a second, all users together"
    )


events.init_command_line_parser.add_listener(  # type: ignore[no-untyped-call]  # locust leaves it so.
    add_request_rate
)


class Client(FastHttpUser):
    """A client that keeps its connection and mixes the workloads of `loadtest/compare`."""

    environment: Environment
    next_at: float

    @property
    def own_rate(self) -> float:
        """How often this user asks, in requests a second."""
        options = self.environment.parsed_options
        assert options is not None, "locust runs this file only after reading its command line"
        rate: float = options.request_rate / options.num_users
        return rate

    def on_start(self) -> None:
        """Begin this user's own schedule."""
        self.next_at = time.perf_counter()

    def wait_time(self) -> float:
        """Return how long to wait for the next moment of this user's schedule, in seconds.

        Moments are drawn at random around the user's own pace (a Poisson process), whatever the
        answers took: with equal pauses, users that meet once would stay in step and arrive in
        bursts, and we would measure locust's own queue.
        """
        self.next_at += random.expovariate(self.own_rate)
        return max(0.0, self.next_at - time.perf_counter())

    @task(WEIGHT_SMALL)
    def small(self) -> None:
        """Ask for six bytes."""
        self._ask("small", SMALL)

    @task(WEIGHT_POST)
    def post(self) -> None:
        """Send 1 KiB of JSON."""
        self._ask("post", POST)

    @task(WEIGHT_16K)
    def some(self) -> None:
        """Ask for 16 KiB."""
        self._ask("16k", SOME)

    @task(WEIGHT_1M)
    def much(self) -> None:
        """Ask for 1 MiB."""
        self._ask("1m", MUCH)

    def _ask(self, name: str, asked: Requests) -> None:
        fields = dict(one.split(": ", 1) for one in asked.fields)
        with self.client.request(
            asked.method,
            asked.path,
            name=name,
            data=asked.body.decode() or None,
            headers=fields,
            catch_response=True,
        ) as response:
            length = len(response.content or b"")
            if response.status_code != 200 or length != asked.response_bytes:
                response.failure(f"status {response.status_code}, {length} bytes")

"""The world of one revision: whole, and unchangeable."""

import pytest

from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.pool import PoolSpec
from loomproxy.core.route import Match, Route, RouteTable, Timeouts, ToPool
from loomproxy.core.snapshot import Snapshot


def test_a_snapshot_cannot_be_changed_under_a_running_exchange() -> None:
    table = RouteTable.build([Route("app", Match(), ToPool("app"))])
    pools = {"app": PoolSpec("app", ())}
    snapshot = Snapshot(7, table, pools, ForwardPolicy(), Limits(), Timeouts())
    assert snapshot.revision == 7
    for name in Snapshot.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(snapshot, name, None)

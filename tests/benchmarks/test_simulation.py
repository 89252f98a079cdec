"""The model of a campaign against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.campaigns.simulation import Machine, Policy, simulate

FREE = Machine(record=0.0, sync=0.0, dispatch=0.0, latency=0.0, network=1e300, start=0.0)


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_equal_samples_on_a_machine_that_costs_nothing_are_shared_evenly(workers):
    found = simulate(np.full(160, 2.0), workers, FREE, Policy(shard=1))
    assert found["seconds"] == pytest.approx(320 / workers) and found["efficiency"] == pytest.approx(1.0)


def test_a_driver_that_is_slower_than_its_workers_sets_the_pace():
    """Catches a driver that serves several at a time, or whose waits for the disk are left out."""
    costs = np.full(1000, 0.1)
    slow = replace(FREE, record=0.01, sync=0.04)
    each = simulate(costs, 100, slow, Policy(shard=10, each=True))
    shard = simulate(costs, 100, slow, Policy(shard=10))
    assert each["seconds"] == pytest.approx(1000 * 0.05 + 1.0) and each["driver"] == pytest.approx(50 / 51)
    assert shard["seconds"] == pytest.approx(1000 * 0.01 + 100 * 0.04 + 1.0)


def test_the_last_long_sample_is_waited_for_unless_it_is_asked_first():
    """One sample waits beside the one that a worker is at, so that it comes a second later."""
    costs = np.array([*[1.0] * 99, 100.0])
    last, first = (simulate(costs, 10, FREE, Policy(shard=1, hardest=hardest)) for hardest in (False, True))
    assert last["seconds"] > 105.0 and first["seconds"] == pytest.approx(101.0)


def test_every_sample_is_answered_once():
    costs = np.random.default_rng(0).exponential(1.0, 5000)
    for policy in (Policy(), Policy(shard=7), Policy(hardest=False)):
        found = simulate(costs, 8, FREE, policy)
        assert found["efficiency"] * 8 * found["seconds"] == pytest.approx(costs.sum())
        assert costs.sum() / 8 <= found["seconds"] < costs.sum() / 8 + 100

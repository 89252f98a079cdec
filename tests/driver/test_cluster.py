"""A dask cluster of two processes on this machine, at the bench of ``test_executor``."""

from __future__ import annotations

import pytest
from test_executor import SHARDS, Kept, Numbers

from tfcert.driver.executor.cluster import Cluster
from tfcert.driver.executor.job import Contents
from tfcert.errors import UsageError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """A client of two workers of one thread each."""
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1, "distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        distributed.Client(cluster, set_as_default=False) as found,
    ):
        yield found


@pytest.fixture
def run(client, tmp_path):
    """Runs the shards of ``test_executor`` with what happens at some places."""

    def run_shards(does=(), contents=None):
        sink = Kept()
        with Cluster(client).open(Numbers(dict(does), str(tmp_path)), contents or Contents()) as executor:
            executor.run(iter(SHARDS), sink)
        return sink

    return run_shards


def test_a_cluster_answers_every_sample_once_with_its_files(run):
    contents = Contents()
    name = contents.add(b"a model", ".keras")
    sink = run({-2: name}, contents)
    assert [len(sink.answers), sink.places()] == [12, list(range(12))]
    assert all(answer.files == {f"{answer.place}.txt": str(answer.place).encode()} for answer in sink.answers)
    assert sink.seconds == 4.0 and sink.alive == 2


def test_a_sample_that_kills_workers_of_a_cluster_is_lost_alone(run):
    sink = run({4: "dies", 7: "dies once"})
    assert sink.places() == [place for place in range(12) if place != 4]
    ((shard, why),) = sink.lost_ones
    assert shard.places == (4,) and why.startswith("2 workers of the cluster died at it")


def test_an_exception_on_a_cluster_is_the_run_s(run):
    with pytest.raises(ValueError, match="no number"):
        run({4: "fails"})
    assert run().places() == list(range(12))


def test_without_a_scheduler_there_is_a_sentence():
    import dask

    nobody = Cluster("tcp://127.0.0.1:9").open(Numbers({}, ""), Contents())
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UsageError, match=r"there is no scheduler at tcp://127\.0\.0\.1:9"),
        nobody,
    ):
        pass

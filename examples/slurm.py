"""A run by jobs of Slurm: ``python examples/slurm.py SPEC.prop FOLDER`` begins it, or goes on with what is in FOLDER.

What a job is says ``~/.config/dask/jobqueue.yaml``; docs/campaigns.md shows one. ``pip install dask-jobqueue``.
"""

import sys
from pathlib import Path

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

import tfcert

MOST_JOBS = 64


def main(spec: str, folder: str) -> int:
    """Runs a specification and returns its exit code."""
    begun = (Path(folder) / "journal.jsonl").is_file()
    with SLURMCluster() as cluster, Client(cluster) as client:
        cluster.adapt(minimum=1, maximum=MOST_JOBS)
        report = tfcert.verify(spec, workers=client, **{"resume" if begun else "out": folder})
    print(report)
    return int(report.exit_code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""What the five papers claim and what is measured of it here: the source of ``docs/reproduction.md``.

A paper is a module, a claim is a ``Line`` in its ``LINES``. To add one:

    Line(
        where="table 3",                        # ``--table 3`` runs the commands of lines that say "table 3"
        claim="adaptive slopes certify more than Fast-Lin",
        printed="+14 to +25%",                  # the paper's figures, and no others
        measured=lambda: f"{radii.gains('cnncert', 'fastlin', CNN4)} on 4 layers",    # every figure from the records
        command=radii.run(CNN4),                # or "benchmarks.training.run mnist-small", or "pytest tests/..."
        note="Depends on the weights.",         # no figures of ours
        open=[Open("20 filters", radii.run(CNN20), seconds=7200, largest="5 filters", until=...)],
    )

``measured`` reads results through ``records`` (``radii``, ``runs``), which names on the page what it read, and raises
``NotStored`` where nothing is stored: then the line needs an ``open`` part. Answered by a test: ``command="pytest
FILE"`` and ``measured`` a sentence. Answered by the paper's own pages: no command. ``python -m benchmarks.papers
--write`` writes the page; ``tests/benchmarks/test_papers.py`` compares it, and finds figures that no record moves.
"""

NAMES = ("cnn_cert", "deepcert", "agrify", "constrained_ibp", "abscert")
"""The modules, one a paper, in the order of the page."""

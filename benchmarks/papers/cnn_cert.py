"""CNN-Cert: Boopathy, Weng, Chen, Liu, Daniel, AAAI 2019. Its lines from table 5 on are in ``cnn_cert_networks.py``."""

from __future__ import annotations

import numpy as np

from benchmarks.papers import cnn_cert_figures as figures
from benchmarks.papers import cnn_cert_networks, programs, radii, runs
from benchmarks.papers.cnn_cert_figures import (
    CIFAR5,
    CIFAR7,
    CIFAR10,
    CNN4,
    CNN5,
    CNN20,
    CONVOLUTIONAL,
    HOUR,
    LENET,
    MLPS,
    NO_POOL,
    NORMAL,
    RADII,
    RESNETS,
    SEVEN_SMALL,
    WIDE_MLP,
    curved,
)
from benchmarks.papers.line import Line, Open, Paper
from benchmarks.papers.records import found, joined, span, stored
from benchmarks.radius.searches import NORMS

HOLDS = """
Three things hold for every line about CNN-Cert and DeepCert:

- **The weights are not the papers'.** Layers and hidden nodes are, weights are those of the reference networks or
  trained here for few epochs. So radii and percentages are not expected to agree with the printed ones. What can be
  compared exactly is the authors' own programs on the same weights, whose radii the reference data has:
  `python -m pytest tests/reference` and the table `radius-peers` of `benchmarks/radius/README.md`.
- **Networks, norms, targets**: as in the papers, the first correctly classified images, a random target that is
  neither predicted, nor the runner-up, nor the least likely; ten images, unless a line says otherwise. Balls are not
  clipped to the pixel range. Ratios of times are of processor seconds, since the machine was not quiet throughout.
- **The authors' programs are unsound on some networks.** On residual networks the block's padding and the fold of batch
  normalisation are wrong: projected gradient descent refutes six of six claimed radii on images with small margins. On
  max or average pooling after tanh or sigmoid the bounds at eps = 0 exceed the true margin. DeepCert's program also
  takes the square root of a squared variance in raw batch normalisation. The papers' tables of these networks are
  **not** targets; the lines below say which they are (`tests/reference` holds the evidence).

Figures in threes are for L-inf, L2 and L1.
"""

LINES = [
    Line(
        where="abstract",
        claim="general: convolutions, max pooling, batch normalisation, residual blocks, general activations",
        measured="reproduces: every family of the paper is bounded; pooling, batch normalisation and residual blocks "
        "soundly, which theirs are not after S-shaped activations",
        command="pytest tests/soundness",
    ),
    Line(
        where="table 1",
        claim="an overview of methods: beside those of the later tables local Lipschitz constants, SDP, Fast-Lip",
        open=[
            Open(
                "local Lipschitz constants (Hein and Andriushchenko), SDP (Raghunathan et al.), Fast-Lip",
                "",
                None,
                "not in tfcert: CNN-Cert does not measure them either",
            )
        ],
    ),
    Line(
        where="table 2, (i)",
        claim="linear bounds of activations through convolutions",
        measured="reproduces: bounds at the radii that their search visited agree on every plain network, within the "
        "test's tolerance",
        command=RADII,
    ),
    Line(
        where="table 2, (ii)",
        claim="residual blocks",
        measured="the formula reproduces, the program does not compute it; auto_LiRPA's CROWN radii are met instead",
        command=RADII,
    ),
    Line(
        where="table 2, (iii)",
        claim="batch normalisation is a scaling",
        measured="reproduces in every position: radii of the authors' program on the 4-layer network with batch "
        "normalisation are met",
        command=RADII,
    ),
    Line(
        where="table 2, (iv)",
        claim="an upper plane of max pooling with level gamma",
        measured="does not hold as printed: it fails wherever an input's upper bound is below another's lower bound; "
        "with such inputs dropped it is sound, and is the relaxation `cnncert`",
        command="pytest tests/propagation/test_pooling.py -k printed",
    ),
    Line(
        where="appendix (c)",
        claim="a lower plane of max pooling",
        measured=lambda: (
            "sound, and loose: the upper plane's weights, whose sum is at least 1, less their excess times the "
            f"greatest upper bound. {figures.pooled()}"
        ),
        note="The appendix is not at hand; the plane is that of the authors' program, whose bounds of single neurons "
        "are not met with intervals as ours are.",
        command="benchmarks.radius.pooled",
    ),
    Line(
        where="text, (iv)",
        claim="the range of an average pooling is the average of l and u",
        measured="true, but loose: here it is a linear map and exact",
        command="pytest tests/network",
    ),
    Line(
        where="eq. 8, 9",
        claim="closed-form bounds by dual norms",
        measured="reproduces",
        command="pytest tests/propagation/test_concretize.py",
    ),
    Line(
        where="text, search",
        claim="bisection on eps finds the radius",
        printed="15 to 17 bounds a search",
        measured=lambda: (
            f"reproduces with {span(figures.evaluations(), '{:.0f}')} evaluations of bounds "
            f"(mean {np.mean(figures.evaluations()):.1f}), though margins need not fall with eps"
        ),
        note="What is returned was itself certified (`tests/propagation/test_radius.py`).",
        command="benchmarks.radius.run",
    ),
    Line(
        where="text, special cases",
        claim="Fast-Lin and CROWN are special cases",
        measured="reproduces: `fastlin` meets the records of Fast-Lin's own program, and `crown` on ReLU networks is "
        "`cnncert`",
        command=RADII,
    ),
    Line(
        where="text, activations",
        claim="for other activations CNN-Cert's lines certify more than CROWN's",
        printed="up to 260%",
        measured=lambda: (
            "the direction reproduces, the size does not: "
            f"{radii.gains('cnncert', 'crown', *curved('mnist_cnn_4layer_5_3'))} on 4 layers, "
            f"{radii.gains('cnncert', 'crown', *curved('cifar_cnn_5layer_5_3'))} on CIFAR, "
            f"{radii.gains('cnncert', 'crown', *curved('mnist_cnn_8layer_5_3'))} on 8 layers, "
            f"{radii.gains('cnncert', 'crown', *curved('mnist_lenet5_avg'))} on LeNet-5{figures.pooled_curves()}"
        ),
        note="On max pooling `cnncert` takes the paper's planes as well, and `crown` the default lines.",
        command=radii.run(*curved("mnist_cnn_4layer_5_3"), *curved("mnist_cnn_8layer_5_3")),
    ),
    Line(
        where="text, times",
        claim="faster than CROWN, by explicit convolutions",
        printed="2.5 to 11.4 times",
        measured=lambda: (
            "the two relaxations run in the same program here, and cost the same a bound: "
            f"{span(figures.per_bound(), '{:.2f}')} times a bound's processor seconds"
        ),
        note="For convolutions as such see table 4.",
        command=radii.run(*curved("mnist_cnn_4layer_5_3")),
    ),
    Line(
        where="table 3, sizes",
        claim="hidden nodes",
        printed="8680, 34720, 10680, 19100, 29360",
        measured=lambda: f"reproduce: {joined(runs.hidden_nodes(CNN4, CNN20, CNN5, CIFAR7, CIFAR10), '{:.0f}')}",
        note="Values that enter an activation, without the ten logits.",
        command=radii.run(CNN4, CNN20, CNN5, CIFAR7, CIFAR10)[0],
    ),
    Line(
        where="table 3",
        claim="adaptive slopes certify more than Fast-Lin",
        printed=radii.printed_gains("cnncert", "fastlin", CNN4, CNN5, CNN20, CIFAR7, CIFAR10),
        measured=lambda: (
            f"depends on the weights: {radii.gains('cnncert', 'fastlin', CNN5)} on 5 layers, "
            f"{radii.gains('cnncert', 'fastlin', CNN4)} on 4 layers (where the authors' programs give the same for "
            f"the same images), {radii.gains('cnncert', 'fastlin', CIFAR5)} on 5 layers of CIFAR"
            + figures.more("; ", {"20 filters": CNN20, "7 layers of CIFAR": CIFAR7, "10 filters on CIFAR": CIFAR10})
        ),
        command=radii.run(CNN4, CNN5, CIFAR5),
        open=[
            Open(
                "20 filters",
                radii.run(CNN20),
                0.2 * HOUR,
                "4 layers of 5 filters",
                lambda: radii.all_done([CNN20], ["fastlin", "cnncert"]),
            ),
            Open(
                "CIFAR with 7 layers and with 10 filters",
                radii.run(CIFAR7, CIFAR10),
                0.25 * HOUR,
                "5 layers of 5 filters",
                lambda: radii.all_done([CIFAR7, CIFAR10], ["fastlin", "cnncert"]),
            ),
        ],
    ),
    Line(
        where="table 3, Global-Lips",
        claim="Global-Lips certifies next to nothing",
        measured=lambda: (
            "reproduces in L-inf ("
            f"{radii.share(CONVOLUTIONAL, ['linf'], 'lipschitz')} of `adaptive`'s radius on convolutions), not in L2: "
            f"{radii.share([CNN4, NORMAL, LENET], ['l2'], 'lipschitz')} on the 4-layer networks and LeNet with max "
            f"pooling, {radii.share([CNN5, NO_POOL], ['l2'], 'lipschitz')} on 5 layers and LeNet without, "
            f"{radii.share(RESNETS[:2], ['l2'], 'lipschitz')} on residual networks, "
            f"{radii.share(MLPS, ['l2'], 'lipschitz')} on the MLPs; L1: "
            f"{radii.share(CONVOLUTIONAL, ['l1'], 'lipschitz')}, and {radii.share(MLPS, ['l1'], 'lipschitz')} on the "
            "MLPs"
        ),
        command=radii.compare(),
    ),
    Line(
        where="table 3, Dual-LP",
        claim="CNN-Cert-Ada certifies more than Dual-LP",
        printed="+8%",
        measured=lambda: (
            "does not reproduce: `lp` starts from CROWN's bounds of neurons, so it is nowhere below. "
            f"{programs.beyond(CNN4)}"
        ),
        note="`lp` is that comparator: one linear relaxation of the whole network, bounded by its dual prices. A "
        "search would take hours, so single radii are asked about. Theirs may start from looser bounds of neurons.",
        command=programs.solve(options="--margins"),
        open=[
            Open(
                "ten images in every norm",
                programs.solve(options="--margins"),
                4 * HOUR,
                "the images that are stored",
                lambda: programs.margins_done(CNN4),
            )
        ],
    ),
    Line(
        where="table 3, attacks",
        claim="attacks leave a gap, widest for L1",
        printed="3 to 130 times",
        measured=lambda: (
            "reproduces: mean distance of attacks over mean certified radius is "
            f"{radii.times(CONVOLUTIONAL, ['linf'], 'attack')} in L-inf, "
            f"{radii.times(CONVOLUTIONAL, ['l2'], 'attack', '{:.0f}')} in L2 and "
            f"{radii.times(CONVOLUTIONAL, ['l1'], 'attack', '{:.0f}')} in L1 on convolutional and residual networks, "
            f"{radii.times(MLPS, NORMS, 'attack')} on the MLPs"
        ),
        note="On no image does an attack come nearer than a certified radius: the script stops if one does.",
        command=radii.compare(),
    ),
    Line(
        where="table 3, CLEVER",
        claim="CLEVER lies between certified radii and attacks",
        measured=lambda: (
            "reproduces for means, but for the MLPs in L1, where it ends at the radius it samples in; by image "
            f"it is below the certified radius for {figures.clever('below')} of {figures.images()} "
            f"({figures.below_on_mlps()} of them "
            f"those) and beyond the attack for {figures.clever('beyond')}"
        ),
        command=radii.compare(),
    ),
    Line(
        where="table 4, convolutions",
        claim="exploiting convolutions is faster than dense matrices",
        printed="3 to 10 times, 17 in the abstract",
        measured=lambda: (
            "reproduces, more so: patches against dense maps of the same network, "
            f"{runs.densify('linf'):.0f} times (L-inf) and {runs.densify('l2'):.0f} times (L2)"
        ),
        note="The dense side builds its matrices in every pass.",
        command=(radii.run(CNN4)[0], "benchmarks.peers.densify"),
    ),
    Line(
        where="table 4, sparse matrices",
        claim="an optimised, sparse Fast-Lin is slower still",
        printed="1.4 to 5.2 times",
        measured=lambda: (
            "sparse matrices in NumPy and SciPy against patches: "
            + ", ".join(found(lambda n=norm: f"{runs.densify(n, 'sparse matrices'):.1f} times ({n})" for norm in NORMS))
        ),
        note="Its margins equal those of `dual-lp`, which are Fast-Lin's: the script stops if they do not.",
        command=(radii.run(CNN4)[0], "benchmarks.peers.densify"),
        open=[
            Open(
                "seconds of sparse Fast-Lin",
                (radii.run(CNN4)[0], "benchmarks.peers.densify"),
                600.0,
                "equal margins on this network in every norm; times wait for a quiet machine",
                lambda: stored(lambda: [runs.densify(norm, "sparse matrices") for norm in NORMS]),
            )
        ],
    ),
    Line(
        where="table 4, seconds",
        claim="seconds an image",
        printed="0.9 to 21",
        measured=lambda: (
            f"{span(figures.seconds(CNN4, CNN5), '{:.2f}')} on 4 and 5 layers in batches; against their program as "
            f"recorded while quiet on the same kind of machine {runs.faster(CNN4, 'CNN-Cert')} times faster on 4 "
            "layers, "
            f"{runs.faster('mnist_lenet', 'CNN-Cert')} on LeNet, {runs.faster(SEVEN_SMALL, 'CNN-Cert')} on 7 small "
            f"layers, {runs.faster(WIDE_MLP, 'CNN-Cert')} on the MLP"
        ),
        command=radii.run(CNN4, CNN5),
        open=[
            Open(
                "20 filters, CIFAR with 7 layers or 10 filters",
                radii.run(CNN20, CIFAR7, CIFAR10),
                0.4 * HOUR,
                "4 and 5 layers of 5 filters",
                lambda: radii.all_done([CNN20, CIFAR7, CIFAR10], ["cnncert"]),
            ),
        ],
    ),
    Line(
        where="table 4, Dual-LP",
        claim="faster than Dual-LP",
        printed="366 times",
        open=[
            Open(
                "seconds of a search by `lp`",
                programs.solve(options="--margins"),
                4 * HOUR,
                "single margins, on a busy machine: two minutes each",
            )
        ],
    ),
    Line(
        where="table 4, CLEVER",
        claim="faster than CLEVER",
        printed="8 to 87 times",
        measured=lambda: (
            f"{span(figures.clever_time())} times, with 100 batches of 256 gradients (theirs: 500 of 1024) and first "
            "runs, compilation included, on both sides"
        ),
        command=radii.compare(),
    ),
    Line(
        where="text, complexity",
        claim="time grows as r^2 m^6 k^4 n^3",
        measured=lambda: (
            "lower over this range: " + ", ".join(found(lambda s=sweep: figures.grows(s) for sweep in figures.GROWTH))
        ),
        note="Counted are the multiplications by weights that are needed (`benchmarks.peers.counted`).",
        command=(radii.run(CNN4)[0], "benchmarks.peers.counted", "benchmarks.peers.growth --resume"),
        open=[
            Open(
                "seconds against r (images' size) and k (filters' size)",
                "benchmarks.peers.growth --resume",
                600.0,
                "m and n; multiplications against all four",
                lambda: stored(lambda: [runs.exponent(sweep) for sweep in figures.GROWTH]),
            ),
        ],
    ),
    *cnn_cert_networks.LINES,
]

PAPER = Paper(
    title="CNN-Cert",
    source="Boopathy, Weng, Chen, Liu, Daniel, AAAI 2019",
    holds=HOLDS,
    lines=LINES,
    tables={table: lambda table=table: figures.grid(table) for table in ("3", "4", "5", "6", "8")}
    | {"7": lambda: figures.curves() + "\n\n" + figures.grid("7")},
)

"""CNN-Cert's lines of table 5 and after: pooled, normalised, residual and curved networks, and MLPs."""

from __future__ import annotations

from benchmarks.papers import cnn_cert_figures as figures
from benchmarks.papers import programs, radii, runs
from benchmarks.papers.cnn_cert_figures import (
    CNN4,
    CNN5,
    CNN8,
    HOUR,
    LENET,
    MLPS,
    NO_POOL,
    NORMAL,
    RESNETS,
    SEVEN,
    SEVEN_SMALL,
    WIDE_MLP,
    curved,
)
from benchmarks.papers.line import Line, Open
from benchmarks.papers.records import found


def _all_images(program: str) -> Open:
    """What is left of the MLPs' radii beside those of a program."""
    return Open(
        "ten images in every norm",
        programs.solve(*MLPS),
        1.5 * HOUR,
        "the images that are stored",
        lambda: programs.is_done(MLPS, ("adaptive", program)),
    )


LINES = [
    Line(
        where="table 5",
        claim="adaptive slopes certify more: LeNet, 7 layers, LeNet without pooling, with batch normalisation",
        printed="+6%, +16 to +18%, +17 to +23%, +23 to +26%",
        measured=lambda: (
            f"{radii.gains('adaptive', 'fastlin', LENET)} (LeNet), "
            f"{radii.gains('adaptive', 'fastlin', SEVEN_SMALL)} (7 layers of fewer filters), "
            f"{radii.gains('cnncert', 'fastlin', NO_POOL)} (no pooling), "
            f"{radii.gains('cnncert', 'fastlin', NORMAL)} (batch normalisation)"
            + figures.more("; ", {"7 layers at full width": SEVEN}, "adaptive")
        ),
        note="Networks with max pooling are compared with the same planes for both.",
        command=radii.run(LENET, NO_POOL, NORMAL, SEVEN_SMALL),
        open=[
            Open(
                "7 layers at full width",
                radii.run(SEVEN),
                HOUR,
                "7 layers of a quarter of the filters",
                lambda: radii.all_done([SEVEN], ["fastlin", "adaptive"]),
            )
        ],
    ),
    Line(
        where="table 5, pooling",
        claim="LeNet without pooling has larger radii than LeNet with it",
        printed="2.3 to 3.7 times",
        measured=lambda: (
            f"much less so: {figures.over((NO_POOL, 'cnncert'), (LENET, 'adaptive'))} times, and "
            f"{figures.over((NO_POOL, 'cnncert'), (LENET, 'cnncert'))} times with their plane on LeNet (`cnncert`)"
        ),
        note="Both are trained separately, so weights differ too.",
        command=radii.run(LENET, NO_POOL),
    ),
    Line(
        where="table 5, batch normalisation",
        claim="batch normalisation shrinks radii",
        measured=lambda: (
            f"reproduces: {radii.means(NORMAL, 'cnncert', '{:.3f}')} against "
            f"{radii.means(CNN4, 'cnncert', '{:.3f}')} (the 4-layer networks)"
        ),
        command=radii.run(NORMAL, CNN4),
    ),
    Line(
        where="table 5, Global-Lips",
        claim="with batch normalisation Global-Lips certifies nine times CNN-Cert's radius in L2",
        printed="0.30",
        measured=lambda: (
            "does not reproduce: with the layer's scales counted it certifies "
            f"{radii.compared_mean(NORMAL, 'l2', 'lipschitz'):.3f}, beside `adaptive`'s "
            f"{radii.compared_mean(NORMAL, 'l2', 'certified'):.3f}"
        ),
        command=radii.compare(NORMAL),
    ),
    Line(
        where="table 5, ten images",
        claim="ten images stand for a hundred",
        measured=lambda: f"reproduces where measured: {figures.hundred()}",
        command=radii.run(CNN4),
        open=[
            Open(
                "every other batch of a hundred",
                "benchmarks.radius.run --patience 3600",
                4 * HOUR,
                lambda: f"the searches of a hundred that are stored: {figures.hundred()}",
                lambda: radii.all_done([CNN4, CNN5, CNN8], ["fastlin", "cnncert"], 100),
            )
        ],
    ),
    Line(
        where="table 5, Tiny ImageNet",
        claim="Tiny ImageNet, 7 layers",
        measured=lambda: f"Its shape, untrained, under a limit of 1 GiB: {runs.large(figures.TINY)}.",
        command="benchmarks.peers.large",
        open=[
            Open(
                "Tiny ImageNet",
                "benchmarks.radius.run",
                None,
                "its images are not here; the shape, untrained",
            )
        ],
    ),
    Line(
        where="table 6",
        claim="ResNet-2, 3, 4 with ReLU: adaptive slopes certify more",
        printed=radii.printed_gains("cnncert", "fastlin", *RESNETS),
        measured=lambda: (
            "**not a target**, the printed bounds are unsound. Sound radii of `adaptive`: "
            f"{figures.resnet(RESNETS[0])} on ResNet-2 and {figures.resnet(RESNETS[1])} on ResNet-3, "
            f"{figures.of_printed(RESNETS[0])} and "
            f"{figures.of_printed(RESNETS[1])} of the printed ones"
            + figures.more("; over Fast-Lin ", dict(zip(("ResNet-2", "ResNet-3", "ResNet-4"), RESNETS, strict=True)))
        ),
        command=radii.compare(*RESNETS[:2]),
        open=[
            Open(
                "the improvement over parallel slopes",
                radii.run(*RESNETS),
                0.5 * HOUR,
                "the radii of `adaptive`",
                lambda: radii.all_done(RESNETS, ["fastlin", "cnncert"]),
            )
        ],
    ),
    Line(
        where="table 7, times",
        claim="other activations cost no more time",
        measured=lambda: (
            f"nearly: a search with CNN-Cert's lines costs {figures.time('cnncert')} times the processor seconds of "
            "one with ReLU"
        ),
        note="It takes a few evaluations more.",
        command=radii.run(CNN8, *curved("mnist_cnn_8layer_5_3")),
    ),
    Line(
        where="table 7",
        claim="8 layers: sigmoid certifies more than ReLU, tanh less",
        printed="4 times, half",
        measured=lambda: (
            f"sigmoid does not: {figures.activation('mnist_cnn_8layer_5_3', 'sigmoid')} times; tanh "
            f"{figures.activation('mnist_cnn_8layer_5_3', 'tanh')} and arctan "
            f"{figures.activation('mnist_cnn_8layer_5_3', 'arctan')} times. On "
            f"4 layers sigmoid {figures.activation('mnist_cnn_4layer_5_3', 'sigmoid')} times, tanh "
            f"{figures.activation('mnist_cnn_4layer_5_3', 'tanh')} and arctan "
            f"{figures.activation('mnist_cnn_4layer_5_3', 'arctan')}"
        ),
        command=radii.run(CNN8, *curved("mnist_cnn_8layer_5_3")),
    ),
    Line(
        where="table 7, pooled",
        claim="LeNet and 7 layers with sigmoid, tanh, arctan",
        measured=lambda: (
            "**not a target**: max pooling after tanh or sigmoid. Soundly on LeNet with the same lines and "
            f"plane {figures.linf('cnncert')} (L-inf), with the default {figures.linf('adaptive')}"
        ),
        command=radii.run(*curved("mnist_lenet")),
        open=[
            Open(
                "LeNet with both of their planes",
                radii.run(*curved("mnist_lenet")),
                600.0,
                "LeNet with ReLU",
                lambda: radii.all_done(curved("mnist_lenet"), ["cnncert"]),
            ),
            Open(
                "7 layers with tanh and arctan",
                radii.run("mnist_cnn_7layer_tanh", "mnist_cnn_7layer_arctan"),
                2 * HOUR,
                "LeNet",
                lambda: radii.all_done(["mnist_cnn_7layer_tanh", "mnist_cnn_7layer_arctan"], ["cnncert"]),
            ),
        ],
    ),
    Line(
        where="table 7, ResNet-3",
        claim="ResNet-3 with sigmoid, tanh, arctan",
        measured=lambda: (
            "**not a target**: unsound. Sound radii: "
            + "; ".join(
                found(
                    lambda n=name: f"{radii.means(n, 'cnncert')} ({n.rpartition('_')[2]})"
                    for name in curved("mnist_resnet_3")
                )
            )
        ),
        command=radii.run(*curved("mnist_resnet_3")),
        open=[
            Open(
                "sound radii",
                radii.run(*curved("mnist_resnet_3")),
                0.7 * HOUR,
                "ResNet-3 with ReLU",
                lambda: radii.all_done(curved("mnist_resnet_3"), ["cnncert"]),
            )
        ],
    ),
    Line(
        where="table 8",
        claim="MLPs: adaptive slopes certify more than Fast-Lin",
        printed=radii.printed_gains("cnncert", "fastlin", *MLPS),
        measured=lambda: (
            f"4 layers of 100 (not in the paper): {radii.gains('cnncert', 'fastlin', WIDE_MLP)}"
            + figures.more("; ", {"2 layers of 20": MLPS[0], "3 layers of 20": MLPS[1]})
        ),
        note="On the MLPs of 20 nodes tests meet the radii of the authors' programs (`tests/reference/test_radii.py`).",
        command=radii.run(WIDE_MLP),
        open=[
            Open(
                "the MLPs of 20 nodes",
                radii.run(*MLPS),
                300.0,
                "met by tests at single radii",
                lambda: radii.all_done(MLPS, ["fastlin", "cnncert"]),
            )
        ],
    ),
    Line(
        where="table 8, Dual-LP",
        claim="MLPs: CNN-Cert within a few percent of Dual-LP",
        printed="1 to 15%",
        measured=lambda: (
            "much closer here, and at or below it but for the search's tolerance (a thousandth): on 2 layers "
            f"{programs.against(MLPS[0], ('adaptive', 'lp'))}; on 3 layers "
            f"{programs.against(MLPS[1], ('adaptive', 'lp'))}"
        ),
        note="`lp` is that comparator.",
        command=programs.solve(*MLPS),
        open=[_all_images("lp")],
    ),
    Line(
        where="table 8, exact",
        claim="MLPs: CNN-Cert certifies half of the exact distance (Reluplex; 2 layers, L-inf)",
        measured=lambda: (
            f"does not reproduce here: certified radii are {programs.shares(MLPS[0], ('adaptive', 'exact'))} of the "
            f"exact distance to the target's class; on 3 layers {programs.shares(MLPS[1], ('adaptive', 'exact'))}"
        ),
        note="Exact distances are of `tfcert.minimum_perturbation` (branch and bound, `split`), to a relative 1e-5.",
        command=programs.solve(*MLPS),
        open=[_all_images("exact")],
    ),
    Line(
        where="tables 9, 13",
        claim="padding and strides; CROWN gives the same bounds as CNN-Cert where it takes the same lines",
        measured="reproduces: convolutions of any stride, padding, dilation and grouping have, over patches, the "
        "bounds of the same network with dense matrices, in every pass; and those of Fast-Lin with sparse matrices, "
        "which shares no code with them. On ReLU networks `crown` and `cnncert` are one rule",
        command=(
            "pytest tests/propagation/test_backward.py -k patches_give",
            "pytest tests/benchmarks/test_peers.py -k fast_lin",
        ),
    ),
]

"""The methods, one file each: how pre-activation bounds are found, and how rows of the output are bounded with them.

====================  ===================================  ==============================================
method                pre-activation bounds                rows of the output
====================  ===================================  ==============================================
``ibp``               intervals                            interval of the last nonlinear nodes
``crown-ibp``         intervals                            backward to the input
``forward``           forward planes, or the interval      planes of the last nonlinear nodes
``forward+backward``  forward planes, or the interval      backward to the input
``crown``             backward to the input, or the        backward to the input
                      interval
``dual-lp``           dual network (slopes of chords)      dual network
``alpha-crown``       as ``crown``, with relaxations       backward to the input
                      found by gradient
====================  ===================================  ==============================================

"Or the interval": where the interval lies inside, see :func:`~tfcert.propagation.preactivation.tighter`.

In every method the rows are multiplied into the last linear layers before anything is bounded (elision), and in all
but ``dual-lp`` the bound found is met with that of the intervals
(:func:`~tfcert.propagation.preactivation.floor`), so that none of these is looser than ``ibp``. Everything here is a
function of (network, region): no state, differentiable in the network's weights. ``tfcert.catalog`` has their names.
"""

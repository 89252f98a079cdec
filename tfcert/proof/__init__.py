"""A checker of certificates that shares nothing with the program that wrote them.

It reads a certificate (one ``.npz``) and the model's own ``.keras`` file, and recomputes every bound of the claim in
float64, charged for the rounding of the deployed program and for its own. It needs NumPy and h5py alone, imports
nothing else of tfcert, and this folder may be copied away from it: ``python -m proof OUT`` then does what ``python -m
tfcert.proof OUT`` does. ``docs/certificates.md`` describes the files field by field.

Nothing in a certificate is believed. It says which question is asked, and which relaxations to try; a bad choice can
only make the recomputed bound worse.
"""

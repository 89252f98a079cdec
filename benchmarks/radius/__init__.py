"""Certified radii beside the CNN-Cert and DeepCert papers, and the networks they are measured on."""

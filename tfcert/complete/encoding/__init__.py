"""Networks as mixed-integer programs. Nothing is imported here: a solver's process must not load TensorFlow."""

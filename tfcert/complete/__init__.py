"""Complete verification: mixed-integer programs solved in processes of their own, guided by attacks.

Nothing is imported here: the solver's process (``python -m tfcert.complete.solver.worker``) must not load TensorFlow.
"""

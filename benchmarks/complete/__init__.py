"""Complete verification: the experiments of Agrify."""

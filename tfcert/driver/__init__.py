"""From specifications, models and samples on disk to reports: everything around the questions themselves."""

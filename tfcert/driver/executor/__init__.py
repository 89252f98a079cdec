"""Who answers the questions of a run: this process, others on this machine, or a cluster."""

"""What the experiments share: data, reference networks, stored results, the machine, paired timing."""

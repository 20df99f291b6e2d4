"""The control plane: holds the truth, binds the listening sockets, starts and replaces everything else."""

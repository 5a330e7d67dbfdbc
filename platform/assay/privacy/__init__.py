"""Private training: per-record gradients, the private update, and what it spends."""

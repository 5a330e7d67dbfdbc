"""Private training: per-record gradients, the private update, and privacy accounting."""

"""Training and measuring detectors. No module outside this package, but the commands, uses it."""

"""The running system under test: real processes, a small real bundle, a robot to watch."""

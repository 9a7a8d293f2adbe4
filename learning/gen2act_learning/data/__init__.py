"""Paired episodes: a robot's demonstration and a human video of the same initial scene."""

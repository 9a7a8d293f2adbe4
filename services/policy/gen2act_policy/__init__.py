"""Policy service: serves a model bundle to robots in closed loop. See `README.md`."""

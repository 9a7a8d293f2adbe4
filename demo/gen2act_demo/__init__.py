"""Runs the whole system from outside: every process as a user would start it, HTTP only."""

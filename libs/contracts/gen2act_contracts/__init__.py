"""Wire contracts of Gen2Act, shared by every service and the robot.

Depends on nothing else of ours. See `README.md` for the map of modules.
"""

from gen2act_contracts import pb

# Peers that announce another version are refused before anything moves.
CONTRACT_VERSION = 1

__all__ = ["CONTRACT_VERSION", "pb"]

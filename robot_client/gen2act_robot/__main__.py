"""`python -m gen2act_robot` is `robot_client`."""

import sys

from gen2act_robot.cli import main

sys.exit(main())

"""importlib mode puts no test folder on the path; some tests here share the fake services."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))

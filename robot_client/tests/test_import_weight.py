import subprocess
import sys

HEAVY = ("torch", "onnxruntime", "mujoco", "gen2act_sim", "gen2act_policy", "gen2act_servicekit")


def test_importing_the_client_loads_no_model_runtime_and_no_simulator() -> None:
    code = f"""
import pkgutil, importlib, sys
import gen2act_robot
for module in pkgutil.walk_packages(gen2act_robot.__path__, "gen2act_robot."):
    if not module.name.endswith((".drivers.sim", ".__main__")):
        importlib.import_module(module.name)
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

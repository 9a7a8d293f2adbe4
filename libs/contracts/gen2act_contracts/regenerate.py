"""Make the committed stubs from `proto/`, or check that they are what `proto/` says.

    python -m gen2act_contracts.regenerate           # write
    python -m gen2act_contracts.regenerate --check   # diff only; exit 1 if they differ

When the committed stubs are too broken to import, run this file by its path instead.
Needs `grpcio-tools` and `mypy-protobuf` (development tools, not dependencies of the library).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_GENERATED = _HERE / "gen"
_PROTO_ROOT = _HERE.parents[2] / "proto"
# protoc writes imports by proto path ("from gen2act.v1 import x_pb2"), which would need a
# top-level package `gen2act`; the stubs live below this package instead.
_IMPORT = re.compile(r"^(\s*)(from|import) gen2act\.", re.MULTILINE)
_PACKAGE = "gen2act_contracts.gen"


class ToolMissing(RuntimeError):
    """A generator is not installed."""


def _plugin(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ToolMissing(f"{name} not found; pip install mypy-protobuf grpcio-tools")
    return found


def generate(proto_root: Path, out: Path) -> None:
    """Write the stubs of every proto below `proto_root` to `out`, importable from `gen`.

    Raises:
        ToolMissing: a generator is not installed.
        subprocess.CalledProcessError: protoc refused a proto.
    """
    protos = sorted(str(p.relative_to(proto_root)) for p in proto_root.rglob("*.proto"))
    if not protos:
        raise ToolMissing(f"no .proto below {proto_root}; run from a source checkout")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{proto_root}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            # Everything of ours runs on asyncio; the async-only stubs type exactly that.
            f"--mypy_grpc_out=quiet,only_async:{out}",
            f"--plugin=protoc-gen-mypy={_plugin('protoc-gen-mypy')}",
            f"--plugin=protoc-gen-mypy_grpc={_plugin('protoc-gen-mypy_grpc')}",
            *protos,
        ],
        check=True,
    )
    for path in list(out.rglob("*_pb2_grpc.py")):
        # protoc makes a module for every file, also for one without services.
        if "Stub" not in path.read_text():
            path.unlink()
            path.with_suffix(".pyi").unlink(missing_ok=True)
    for path in [*out.rglob("*.py"), *out.rglob("*.pyi")]:
        text = path.read_text()
        path.write_text(_IMPORT.sub(rf"\1\2 {_PACKAGE}.gen2act.", text))
    for folder in [out, *(p for p in out.rglob("*") if p.is_dir())]:
        (folder / "__init__.py").write_text("")


def _tree(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): p.read_text()
        for p in sorted(root.rglob("*"))
        if p.suffix in {".py", ".pyi"}
    }


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of files that are missing, surplus or different in `committed`."""
    new, old = _tree(fresh), _tree(committed)
    return sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the gRPC stubs from proto/.")
    parser.add_argument("--check", action="store_true", help="diff only; exit 1 if they differ")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        try:
            generate(_PROTO_ROOT, fresh)
        except ToolMissing as error:
            print(error, file=sys.stderr)
            return 2
        changed = differences(fresh, _GENERATED)
        if not arguments.check:
            shutil.rmtree(_GENERATED, ignore_errors=True)
            shutil.copytree(fresh, _GENERATED)
    if changed and arguments.check:
        print("stubs differ from proto/:", ", ".join(changed), file=sys.stderr)
        print("run: python -m gen2act_contracts.regenerate", file=sys.stderr)
        return 1
    print(f"{len(changed)} stub(s) changed" if changed else "stubs match proto/")
    return 0


if __name__ == "__main__":
    sys.exit(main())

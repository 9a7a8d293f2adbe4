import subprocess
import sys
from pathlib import Path

from gen2act_contracts import keys, pb, regenerate

PROTO = Path(regenerate.__file__).resolve().parents[3] / "proto"


def test_the_committed_stubs_are_what_the_protos_say() -> None:
    assert regenerate.main(["--check"]) == 0


def test_a_changed_proto_is_noticed(tmp_path: Path) -> None:
    for proto in PROTO.rglob("*.proto"):
        copy = tmp_path / "proto" / proto.relative_to(PROTO)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = proto.read_text()
        copy.write_text(text.replace("uint32 bins = 2;", "uint32 boxes = 2;"))
    fresh = tmp_path / "fresh"
    fresh.mkdir()

    regenerate.generate(tmp_path / "proto", fresh)

    committed = Path(regenerate.__file__).parent / "gen"
    assert regenerate.differences(fresh, committed) == [
        "gen2act/v1/common_pb2.py",
        "gen2act/v1/common_pb2.pyi",
    ]


def test_stubs_import_nothing_from_the_top_level() -> None:
    """A package `gen2act` on somebody's path must not be mixed up with ours."""
    code = "import gen2act_contracts, sys; sys.exit('gen2act' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_contracts_loads_no_video_codec() -> None:
    """The robot has none installed."""
    code = (
        "import sys; from gen2act_contracts import errors, frames, keys, rpc, spec;"
        "sys.exit(any(name in sys.modules for name in ('av', 'torch', 'onnxruntime')))"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_contract_version_in_the_protos_is_ours() -> None:
    text = (PROTO / "gen2act" / "v1" / "common.proto").read_text()

    assert "Contract version: 1 " in text
    assert pb.common.DESCRIPTOR.package == "gen2act.v1"


def test_keys_of_different_things_differ() -> None:
    made = {keys.video_key("a"), keys.video_meta_key("a"), keys.goal_key("a", "m")}

    assert len(made) == 3
    assert all(key.startswith("gen2act:") for key in made)

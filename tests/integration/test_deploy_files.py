"""The compose files and Dockerfiles agree with each other, the Procfile and the tree.

No container engine is needed: they are parsed, not built.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from gen2act_videogen.settings import VideogenSettings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT = [name for name, service in SERVICES.items() if "build" in service]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines)}


def words(command: str) -> list[str]:
    """A Procfile command without variables set before it and the options that only name places."""
    kept = [
        word
        for word in shlex.split(command)
        if word != "exec" and not re.fullmatch(r"[A-Z0-9_]+=.*", word)
    ]
    return [word for word in kept if "${" not in word]


def instructions(dockerfile: Path) -> list[dict[str, str]]:
    with dockerfile.open("rb") as opened:
        structure: list[dict[str, str]] = DockerfileParser(fileobj=opened).structure
    return structure


def values(dockerfile: Path, instruction: str) -> list[str]:
    return [i["value"] for i in instructions(dockerfile) if i["instruction"] == instruction]


@pytest.mark.parametrize("name", BUILT)
def test_every_built_service_has_its_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]) in DOCKERFILES


def test_every_dockerfile_is_used() -> None:
    used = {ROOT / SERVICES[name]["build"]["dockerfile"] for name in BUILT}
    assert used == set(DOCKERFILES)


@pytest.mark.parametrize("name", BUILT)
def test_compose_runs_what_the_procfile_runs(name: str) -> None:
    command: list[str] = SERVICES[name]["command"]
    addresses = [word for word in command if re.fullmatch(r"[a-z]+:\d+", word)]
    assert [word for word in command if word not in addresses] == words(procfile()[name])


@pytest.mark.parametrize("name", BUILT)
def test_the_image_alone_runs_the_same_command(name: str) -> None:
    dockerfile = ROOT / SERVICES[name]["build"]["dockerfile"]
    (command,) = values(dockerfile, "CMD")
    assert yaml.safe_load(command) == SERVICES[name]["command"]


def test_procfile_and_compose_have_the_same_parts() -> None:
    assert set(procfile()) == set(SERVICES)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_every_copied_source_is_in_the_tree_and_not_ignored(dockerfile: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for copy in values(dockerfile, "COPY"):
        *sources, _target = copy.split()
        for source in sources:
            assert any(t == source or t.startswith(f"{source}/") for t in tracked), source
            assert source.split("/")[0] not in ignored, source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_images_do_not_run_as_root(dockerfile: Path) -> None:
    user = values(dockerfile, "USER")[-1].split(":")[0]
    assert user.isdigit() and int(user) > 0


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_images_are_built_without_torch(dockerfile: Path) -> None:
    assert "torch" not in dockerfile.read_text()


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"robot"}))
def test_services_have_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_dependants_wait_until_healthy() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}, (name, other)
            assert "healthcheck" in SERVICES[other], (name, other)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_containers_come_back_and_gain_no_privileges(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_redis_keeps_its_data() -> None:
    redis = SERVICES["redis"]
    assert "--appendonly yes" in redis["command"][-1]
    (mount,) = redis["volumes"]
    assert mount.partition(":")[0] in COMPOSE["volumes"]


def test_the_password_must_be_given() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    uses = re.findall(r"\$\{GEN2ACT_REDIS_PASSWORD([^}]*)", text)
    assert uses and all(use.startswith(":?") for use in uses)


def test_only_the_simulated_robot_is_optional() -> None:
    assert {name: s["profiles"] for name, s in SERVICES.items() if "profiles" in s} == {
        "robot": ["demo"]
    }


def test_the_gpu_override_changes_only_known_services_and_arguments() -> None:
    for name in set(GPU["services"]) & set(SERVICES):
        override = GPU["services"][name]
        dockerfile = ROOT / SERVICES[name]["build"]["dockerfile"]
        declared = {argument.partition("=")[0] for argument in values(dockerfile, "ARG")}
        assert set(override.get("build", {}).get("args", {})) <= declared
        assert set(override["environment"]) <= set(SERVICES[name]["environment"])


def test_the_gpu_override_adds_an_optional_engine_where_videogen_looks_for_it() -> None:
    (added,) = set(GPU["services"]) - set(SERVICES)
    engine = GPU["services"][added]
    assert engine["profiles"] == ["engine"]
    assert ":v" in engine["image"]
    assert engine["healthcheck"]["test"] and engine["restart"] == "unless-stopped"
    (port,) = [word.partition("=")[2] for word in engine["command"] if word.startswith("--port=")]
    address = GPU["services"]["videogen"]["environment"]["GEN2ACT_ENGINE_BASE_URL"]
    assert f"http://{added}:{port}/v1" in address
    assert f":{port}/" in engine["healthcheck"]["test"][-1]
    (mount,) = engine["volumes"]
    assert mount.partition(":")[0] in GPU["volumes"]


def test_videogen_gets_every_setting_of_the_example() -> None:
    example = (ROOT / "deploy" / "example.env").read_text()
    named = set(re.findall(r"^(GEN2ACT_(?:VIDEO|ENGINE|GEMINI)_\w+)=", example, re.M))
    assert named <= set(SERVICES["videogen"]["environment"])
    assert set(SERVICES["videogen"]["environment"]) <= {
        f"GEN2ACT_{name.upper()}" for name in VideogenSettings.model_fields
    }

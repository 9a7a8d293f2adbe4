"""What the documents say is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gen2act_orchestrator.settings import OrchestratorSettings
from gen2act_policy.settings import PolicySettings
from gen2act_servicekit import ServiceSettings
from gen2act_videogen.settings import VideogenSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize(
    ("heading", "settings"),
    [
        ("Every service", ServiceSettings),
        ("videogen", VideogenSettings),
        ("policy", PolicySettings),
        ("orchestrator", OrchestratorSettings),
    ],
)
def test_every_setting_is_documented_with_its_default(
    heading: str, settings: type[ServiceSettings]
) -> None:
    section = CONFIGURATION.split(f"## {heading}\n")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `GEN2ACT_(\w+)` \| `?([^|`]+?)`? \|", section, re.M))
    common = {} if settings is ServiceSettings else ServiceSettings.model_fields
    expected = {}
    for name, field in settings.model_fields.items():
        default = field.default
        if name in common and common[name].default == default:
            continue
        text = str(getattr(default, "get_secret_value", lambda value=default: value)())
        expected[name.upper()] = text.lower() if isinstance(default, bool) else text or "none"
    assert documented == expected


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_links_lead_somewhere(guide: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", guide.read_text())
    for link in links:
        if not link.startswith("http"):
            assert (guide.parent / link).exists(), link


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.M))
    known = {name for group in targets for name in group.split()}
    named = set(re.findall(r"`?make ([a-z-]+)", README)) - {"coffee"}
    assert {"demo", "test", "check", "up", "clean"} <= named <= known


def test_the_table_of_folders_is_whole() -> None:
    shown = set(re.findall(r"^\| \[`([\w/]+)/?`\]", README, re.M))
    members = {path.parent.name for path in ROOT.glob("*/pyproject.toml")}
    members |= {
        f"{path.parents[1].name}/{path.parent.name}" for path in ROOT.glob("*/*/pyproject.toml")
    }
    assert members <= {name.rstrip("/") for name in shown}, members - shown

"""What goes into the image, compared with what the app says that it is made of."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

from mrff.config.names import check_full_names
from mrff.ops.doctor.programs import NOT_IN_DEPLOYMENTS
from tests.support.deployment import CHECKOUT

NOT_INSTALLED = {"scikit-learn": "sklearn", "plotly": "plotly"}  # and what they are imported as


def _names(lines: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9_.-]+", line) for line in lines)
    return {match[0].lower() for match in found if match}


def test_the_image_installs_the_dependencies_of_the_app() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    lines = (CHECKOUT / "docker/requirements.txt").read_text().splitlines()
    assert _names(lines) == _names(project["dependencies"]) - NOT_INSTALLED.keys()
    assert set(NOT_IN_DEPLOYMENTS) == NOT_INSTALLED.keys(), "what mrff doctor does not ask for"


def test_what_containers_run_needs_nothing_else() -> None:
    script = (
        "import sys, mrff.cli.main, mrff.cli.run, mrff.data.prepare, mrff.data.shard\n"
        "import server_app.app, client_app.app\n"
        "assert mrff.cli.main.main(['deploy', 'submit', '--help']) == 0\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert {"mrff.cli.main", "client_app.app"} <= imported
    assert imported & {*NOT_INSTALLED.values(), "ray"} == set()


def test_the_image_has_every_package() -> None:
    pyproject = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    let_through = [line[1:] for line in lines if line.startswith("!")]
    for package in pyproject["tool"]["setuptools"]["packages"]:
        top = package.partition(".")[0]
        assert any(fnmatch(top, pattern) for pattern in let_through), package


def test_the_settings_of_containers_are_full_names() -> None:
    compose = (CHECKOUT / "docker/compose.yaml").read_text()
    demo = (CHECKOUT / "docker/demo.sh").read_text()
    loop = re.search(r'for setting in "(.*?) "\$@"', demo, re.S)
    assert loop
    keys = re.findall(r"--set=([a-z.-]+)=", compose) + re.findall(r"([a-z-]+\.[a-z-]+)=", loop[1])
    assert len(keys) == 5
    check_full_names(keys)


def test_compose_gives_every_node_its_own_volumes_only() -> None:
    text = (CHECKOUT / "docker/compose.yaml").read_text()
    services = re.split(r"\n  (?=[a-z][a-z0-9-]*:\n)", text.split("\nservices:\n")[1])
    for service in services:
        name = service.split(":")[0].strip()
        match = re.fullmatch(r"node-(\d)(-executor)?", name)
        if match:
            numbers = set(re.findall(r"(?:node|private)-(\d)", service))
            assert numbers == {match[1]}, name

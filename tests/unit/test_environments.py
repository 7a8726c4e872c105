"""requirements.txt, the conda environments and the commit hooks name the same versions."""

import importlib.metadata
import re
import sys
import tomllib

import code_graph
import pytest
import yaml
from code_graph import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENVIRONMENTS = ("torch", "report")
# torch brings its own CUDA packages; wheels of these two do not fit a CPU build of torch.
ABSENT = re.compile(r"nvidia|cuda|triton|torchvision|timm")


def requirement_lines():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def locked():
    """Canonical name -> the requirement that requirements.txt pins it by."""
    return {canonicalize_name(r.name): r for r in map(Requirement, requirement_lines())}


def environment(name):
    """What envs/{name}.yaml takes from conda (a list) and from PyPI (name -> requirement)."""
    content = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text(encoding="utf-8"))
    conda = [item for item in content["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in content["dependencies"] if isinstance(item, dict)]
    found = [Requirement(line) for line in pip]
    names = [canonicalize_name(r.name) for r in found]
    assert len(names) == len(set(names)), f"envs/{name}.yaml names a package twice"
    return conda, dict(zip(names, found, strict=True))


def distributions_needed(roots):
    """`roots` and all that they need in turn on this machine, as canonical names."""
    waiting, found = [canonicalize_name(name) for name in roots], set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return {name for name in found if not ABSENT.search(name)}


# ---------------------------------------------------------------- requirements.txt
def test_requirements_are_exact_and_named_once():
    lines = requirement_lines()
    assert len(lines) > 50
    names = [line.split("==")[0] for line in lines]
    assert len(set(names)) == len(names)
    assert [line for line in lines if not re.match(r"[a-z0-9-]+==[\w.]+( ; .+)?$", line)] == []


def test_requirements_leave_platform_packages_to_torch(locked):
    assert [name for name in locked if ABSENT.search(name)] == []


def test_requirements_meet_pyproject(locked):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [Requirement(line) for group in groups for line in group]
    faults = []
    for requirement in wanted:
        pin = locked.get(canonicalize_name(requirement.name))
        if pin is None or not requirement.specifier.contains(_version(pin)):
            faults.append(f"{requirement} (pinned: {pin})")
    assert not faults, "run `make lock`"


def test_requirements_are_complete(locked):
    roots = [name for name, pin in locked.items() if not pin.marker or pin.marker.evaluate()]
    assert distributions_needed(roots) - locked.keys() == set(), "run `make lock`"


def _version(pin):
    return str(pin.specifier).removeprefix("==")


# ---------------------------------------------------------------- envs/*.yaml
def test_every_environment_is_known():
    assert {path.stem for path in (ROOT / "envs").glob("*.yaml")} == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_pins_the_versions_of_requirements(name, locked):
    conda, pip = environment(name)
    assert [item for item in conda if not re.match(r"(python=3\.\d+|pip)$", item)] == []
    differing = {key: str(pin) for key, pin in pip.items() if str(pin) != str(locked.get(key))}
    assert differing == {}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_names_what_its_packages_need(name):
    _, pip = environment(name)
    roots = [key for key, pin in pip.items() if not pin.marker or pin.marker.evaluate()]
    assert distributions_needed(roots) - pip.keys() == set()


def test_report_environment_has_no_torch():
    _, pip = environment("report")
    assert pip.keys() & {"torch", "diffusers", "pyautoattack", "safetensors"} == set()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_holds_what_its_scripts_import(name):
    _, pip = environment(name)
    owners = importlib.metadata.packages_distributions()
    scripts = [
        ROOT / "scripts" / f"{rule}.py"
        for rule, directives in code_graph.rules().items()
        if f"envs/{name}.yaml" in directives.get("conda", "")
    ]
    assert scripts
    faults = []
    for script in scripts:
        for package in code_graph.packages(code_graph.reachable(script)):
            if package == "contrastdp" or package in sys.stdlib_module_names:
                continue
            providers = {canonicalize_name(owner) for owner in owners.get(package, [])}
            if not providers & pip.keys():
                faults.append(f"{script.name} imports {package}")
    assert not faults


# ---------------------------------------------------------------- hooks
def test_commit_hooks_use_the_versions_of_requirements(locked):
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    hooks = [hook for repo in yaml.safe_load(text)["repos"] for hook in repo["hooks"]]
    pins = [Requirement(line) for hook in hooks for line in hook["additional_dependencies"]]
    assert {pin.name for pin in pins} == {"ruff", "snakefmt"}
    assert [str(pin) for pin in pins if str(pin) != str(locked[pin.name])] == []

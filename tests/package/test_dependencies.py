"""What is imported is declared, and what is declared is in the lists of versions of CI."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
VERSIONS = ROOT / ".ci" / "versions"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
GROUPS = PYPROJECT["dependency-groups"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(lines: Iterator[str | dict[str, str]]) -> list[Requirement]:
    """Those on other projects: extras and groups that name others of ours are followed anyway."""
    found = [Requirement(line) for line in lines if isinstance(line, str)]
    return [each for each in found if each.name != PROJECT["name"]]


OF_USERS = requirements(chain(PROJECT["dependencies"], *EXTRAS.values()))
IN_ALL = [each for each in OF_USERS if each.name != "presidio-analyzer"]
OF_DEVELOPERS = requirements(chain(PYPROJECT["build-system"]["requires"], *GROUPS.values()))


def listed(name: str) -> dict[str, list[Version]]:
    """The versions of a list by project; one may have several, for different Pythons."""
    found: dict[str, list[Version]] = {}
    for line in (VERSIONS / name).read_text(encoding="utf-8").splitlines():
        project, _, version = line.partition(" ;")[0].strip().partition("==")
        found.setdefault(normal(project), []).append(Version(version))
    return found


NEWEST = listed("newest.txt")
OLDEST = [listed("oldest.txt"), listed("oldest-all.txt")]


def modules_of(requirement: Requirement) -> set[str]:
    """The modules that a project installs; by its name, if it is not installed here."""
    try:
        files = distribution(requirement.name).files or []
    except PackageNotFoundError:
        return {normal(requirement.name).replace("-", "_")}
    names = {tuple(part.partition(".")[0] for part in file.parts) for file in files}
    return {".".join(name[: -1 if name[-1] == "__init__" else None]) for name in names}


DECLARED = set().union(*map(modules_of, OF_USERS)) | {"pytest"}
"""pytest itself imports the one module that imports it."""


def imported() -> Iterator[tuple[str, str]]:
    """Every module of others that the package names in an import, with the file that does."""
    for path in sorted((ROOT / "ollama_otel").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name.partition(".")[0] not in {*sys.stdlib_module_names, "ollama_otel"}:
                    yield name, str(path.relative_to(ROOT))


@pytest.mark.slow
def test_every_module_that_is_imported_comes_from_a_declared_dependency() -> None:
    undeclared = {
        (name, file)
        for name, file in imported()
        # `from a.b import c`: either is the module.
        if DECLARED.isdisjoint({name, name.rpartition(".")[0]})
    }
    assert not undeclared


@pytest.mark.parametrize("requirement", [*IN_ALL, *OF_DEVELOPERS], ids=str)
def test_the_newest_versions_are_listed_and_allowed(requirement: Requirement) -> None:
    versions = NEWEST.get(normal(requirement.name), [])
    assert versions, "run .ci/lock"
    for version in versions:
        assert requirement.specifier.contains(version, prereleases=True), "run .ci/lock"


@pytest.mark.parametrize("requirement", IN_ALL, ids=str)
def test_each_lower_bound_is_installed_in_ci(requirement: Requirement) -> None:
    """In one of the two environments: an extra may need a newer version than the package."""
    [bound] = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    name = normal(requirement.name)
    assert bound in chain.from_iterable(versions.get(name, []) for versions in OLDEST)


@pytest.mark.parametrize("name", ["newest.txt", "oldest.txt", "oldest-all.txt"])
def test_a_list_has_versions_only(name: str) -> None:
    """No addresses, paths or options: it holds for every machine and index."""
    for line in (VERSIONS / name).read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.!]+( ; [a-z_0-9 .'=<>!()A-Z]+)?", line), line

"""Which way the arrows point, and who may import what: the contracts in pyproject.toml."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("orchestrator", "jobs", "cluster")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]

BREAK = {  # contract: a module, and what it must not import
    "orchestrator decides, jobs work, cluster keeps": (
        "cluster/storage/base.py",
        "jobs.spec.trial",
    ),
    "the rooms of orchestrator import downwards": ("orchestrator/ledger.py", "orchestrator.sweep"),
    "the rooms of jobs import downwards": ("jobs/spec/trial.py", "jobs.training.host"),
    "the rooms of cluster import downwards": ("cluster/storage/base.py", "cluster.sources"),
    "jobs run without Ray, Optuna and MLflow": ("jobs/spec/trial.py", "ray"),
    "jobs know of cluster its storage, its sources and its tables of plug-ins alone": (
        "jobs/spec/trial.py",
        "cluster.ray.connect",
    ),
    "cluster knows no model": ("cluster/storage/base.py", "torch"),
    "orchestrator leaves torch to jobs": ("orchestrator/ledger.py", "torch"),
    "optuna has one home": ("orchestrator/sweep.py", "optuna"),
    "fastapi has one home": ("orchestrator/report/page.py", "fastapi"),
    "uvicorn has one home": ("orchestrator/report/page.py", "uvicorn"),
    "mlflow has one home": ("orchestrator/search/tune.py", "mlflow"),
    "deepspeed has one home": ("jobs/training/host.py", "deepspeed"),
    "peft has two homes": ("jobs/training/engine/replicated.py", "peft"),
    "gguf has one home": ("jobs/export/write.py", "gguf"),
    "xllamacpp has one home": ("jobs/export/gguf/export.py", "xllamacpp"),
    "pyworld has two homes": ("jobs/metrics/timing.py", "pyworld"),
    "onnxruntime has one home": ("jobs/metrics/speaker.py", "onnxruntime"),
    "pytest has one home": ("jobs/metrics/base.py", "pytest"),
    "qwen_tts has one home": ("jobs/families/codec_lm.py", "qwen_tts"),
    "voxcpm has one home": ("jobs/families/codec_lm.py", "voxcpm"),
    "espeakng_loader has one home": ("jobs/families/layout.py", "espeakng_loader"),
    "resemblyzer has one home": ("jobs/metrics/dnsmos.py", "resemblyzer"),
    "boto3 has one home": ("cluster/storage/base.py", "boto3"),
    "s3transfer has one home": ("cluster/storage/base.py", "s3transfer"),
    "pyarrow has one home": ("cluster/storage/base.py", "pyarrow"),
}


def lint(root: Path) -> dict[str, str]:
    """What import-linter says of each contract, on the packages under ``root``."""
    program = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "--config", str(root / "pyproject.toml"), "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    said = dict(re.findall(r"^(.*\S) (KEPT|BROKEN)\b.*$", ended.stdout, flags=re.MULTILINE))
    kept = sum(word == "KEPT" for word in said.values())
    summary = f"Contracts: {kept} kept, {len(said) - kept} broken."
    assert summary in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == (kept < len(said))
    return said


@pytest.fixture
def copy(tmp_path) -> Path:
    """The contracts and the code, free to be spoilt."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path


def test_every_contract_is_kept():
    assert len(CONTRACTS) == 26
    assert lint(ROOT) == {contract["name"]: "KEPT" for contract in CONTRACTS}


def test_every_contract_can_break(copy):
    assert set(BREAK) == {contract["name"] for contract in CONTRACTS}
    for module, wanted in BREAK.values():
        with (copy / module).open("a") as file:
            file.write(f"\nimport {wanted}\n")
    assert lint(copy) == dict.fromkeys(BREAK, "BROKEN")


def test_each_home_uses_what_it_keeps():
    """A home that has moved would leave a contract that nothing can break."""
    for contract in CONTRACTS:
        if contract["type"] == "protected":
            (library,) = contract["protected_modules"]
            uses = re.compile(rf"^\s*(from|import) {library}\b", flags=re.MULTILINE)
            for home in contract["allowed_importers"]:
                place = ROOT / home.replace(".", "/")
                files = [*place.rglob("*.py")] if place.is_dir() else [place.with_suffix(".py")]
                assert any(uses.search(path.read_text()) for path in files), home


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """The project's modules that a file imports anywhere in it, for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules or {node.module}
    return found & modules


def test_no_files_import_each_other_in_a_circle():
    files = {
        module_of(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    assert len(files) > 200
    graph = {name: imports_of(path, set(files)) for name, path in files.items()}
    assert sum(map(len, graph.values())) > 1000
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_a_class_name_stands_once():
    places = defaultdict(list)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(module_of(path))
    assert len(places) > 250
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


RAY_MODULES = {
    "orchestrator.context",
    "orchestrator.workers.scoring",
    "orchestrator.sweep",
    "orchestrator.search.synthesis",
    "orchestrator.hosts.rank_group",
    "orchestrator.hosts.host_actor",
    "orchestrator.hosts.fleet",
    "orchestrator.hosts.pool",
    "orchestrator.search.tune",
    "orchestrator.hosts.leased_slot",
    "orchestrator.search.study",
    "orchestrator.search.trial",
}
"""What may import Ray when imported."""


def test_importing_the_orchestrator_loads_no_torch():
    """Module by module in one process, those that may import Ray last."""
    modules = sorted(module_of(path) for path in (ROOT / "orchestrator").rglob("*.py"))
    assert len(modules) >= 30
    assert set(modules) >= RAY_MODULES
    program = """
import importlib, json, sys
heavy, found = {"torch", "transformers", "peft", "deepspeed", "ray"}, {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    loaded = sorted(heavy & sys.modules.keys())
    heavy -= set(loaded)
    if loaded:
        found[name] = loaded
print(json.dumps(found))
"""
    order = sorted(modules, key=lambda name: name in RAY_MODULES)
    ended = subprocess.run(
        [sys.executable, "-c", program, json.dumps(order)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == {"orchestrator.context": ["ray"]}

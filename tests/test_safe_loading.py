"""Nothing in the source tree loads a pickle, whatever it is wrapped in."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("jobs", "orchestrator", "cluster")
UNSAFE_CALLS = {
    ("torch", "load"),
    ("pickle", "load"),
    ("pickle", "loads"),
    ("pickle", "Unpickler"),
    ("cloudpickle", "load"),
    ("cloudpickle", "loads"),
    ("joblib", "load"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
}


def unsafe_loads(source: str) -> list[str]:
    """Calls that can run code from a file, as ``line: call``."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (
                module,
                name,
            ) in UNSAFE_CALLS:
                found.append(f"{node.lineno}: {module}.{name}")
            case ast.ImportFrom(module=str(module), names=names):
                unsafe = [a.name for a in names if (module, a.name) in UNSAFE_CALLS]
                found += [f"{node.lineno}: {module}.{name}" for name in unsafe]
            case ast.keyword(arg="allow_pickle"):
                found.append(f"{node.lineno}: allow_pickle")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import pickle\npickle.loads(data)",
        "from pickle import load",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
    ],
)
def test_the_check_sees_what_it_is_for(source: str):
    assert len(unsafe_loads(source)) == 1


def test_the_check_lets_safe_loads_pass():
    assert unsafe_loads("import yaml, json\nyaml.safe_load(text)\njson.load(file)") == []


def test_no_source_file_loads_a_pickle():
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    found = {
        str(path.relative_to(ROOT)): unsafe
        for path in files
        if (unsafe := unsafe_loads(path.read_text()))
    }
    assert found == {}
    assert len(files) >= 40
    assert {path.relative_to(ROOT).parts[0] for path in files} == set(PACKAGES)

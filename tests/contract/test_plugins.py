"""Plug-ins as installed distributions: an example of each kind, and those that cannot be used."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.storage.base import STORAGES, open_storage
from jobs.export.formats import formats_of
from jobs.export.write import export_voice
from jobs.families.base import FrozenBase
from jobs.families.registry import FAMILIES, load_base
from jobs.metrics.catalogue import METRICS
from jobs.problems import InputError
from jobs.spec.metric import MetricSpec
from jobs.testing.families import FamilyBattery
from jobs.testing.metrics import MetricBattery
from orchestrator.doctor import examine
from orchestrator.spec.reading import read_spec
from tests.embedded_voice import EMBEDDED_HOST
from tests.jobs.export.voices import random_voice

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "plugin_example"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example plug-in, installed by pip into a directory of this module's path."""
    folder = tmp_path_factory.mktemp("plugin")
    source, target = folder / "source", folder / "site"
    shutil.copytree(EXAMPLE, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(command, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        patch.setenv("VOXSWEEP_EXAMPLE_ROOT", str(folder / "storages"))
        yield target
    for name in [name for name in sys.modules if name.split(".")[0] == "voxsweep_example"]:
        del sys.modules[name]


@pytest.mark.usefixtures("example")
class TestExampleFamily(FamilyBattery):
    family = "quiet_lm"
    max_tokens = 8

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls) -> FrozenBase:
        return load_base(EMBEDDED_HOST.model_copy(update={"family": "quiet_lm"}))


@pytest.mark.usefixtures("example")
class TestExampleMetric(MetricBattery):
    specs = (MetricSpec(name="peak"),)


def test_the_example_is_in_every_table(example: Path):
    assert "quiet_lm" in FAMILIES
    assert "peak" in METRICS
    assert "example" in STORAGES
    assert formats_of("codec_lm") == ["peft", "merged", "gguf", "weights"]
    lines = [*examine().lines()]
    assert "family quiet_lm: can run" in lines
    assert [line for line in lines if line.startswith("plug-in")] == [
        "plug-in: quiet_lm of voxsweep.families comes from voxsweep-example 1.0",
        "plug-in: peak of voxsweep.metrics comes from voxsweep-example 1.0",
        "plug-in: example of voxsweep.storages comes from voxsweep-example 1.0",
        "plug-in: codec_lm.weights of voxsweep.export_formats comes from voxsweep-example 1.0",
    ]


def test_its_storage_opens_by_its_url(example: Path):
    storage = open_storage("example://sweeps")
    storage.write("a/b", b"1")
    assert storage.url == "example://sweeps"
    assert open_storage(storage.url).read("a/b") == b"1"
    with pytest.raises(ValueError, match=r"s3://bucket/prefix or example://, but .* gs://"):
        open_storage("gs://bucket")


def test_its_format_is_exported_and_loaded_back(
    example: Path, embedded_base: FrozenBase, tmp_path: Path
):
    voice = random_voice(tmp_path / "voice", embedded_base)
    made = export_voice(voice, "weights", tmp_path / "out")
    assert made.format == "weights"
    assert made.quantization is None
    assert [check.difference for check in made.load_back.checks] == [0]
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_spec_takes_its_names_and_proposes_them(example: Path, tmp_path: Path):
    spec = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    path = tmp_path / "sweep.yaml"
    spec["family"] = "quiet_lm"
    spec["scoring"]["metrics"].append("peak")
    path.write_text(yaml.safe_dump(spec))
    assert read_spec(path).family == "quiet_lm"
    spec["family"] = "quiet-lm"
    spec["scoring"]["metrics"][-1] = "peek"
    path.write_text(yaml.safe_dump(spec))
    with pytest.raises(InputError) as caught:
        read_spec(path)
    advice = {problem.what: problem.next_step for problem in caught.value.problems}
    assert advice == {
        "family must be known, got 'quiet-lm'": "Did you mean quiet_lm?",
        "unknown metric peek": "Did you mean peak?",
    }


def test_names_and_descriptions_load_no_model_code(example: Path):
    program = """
import json, sys
from jobs.export.formats import formats_of
from jobs.families.registry import FAMILIES
from jobs.metrics.catalogue import METRICS
from cluster.storage.base import STORAGES
names = [*FAMILIES, *METRICS, *STORAGES, *formats_of("codec_lm")]
imported = [name for name in sys.modules if name.startswith("voxsweep_example")]
usable = "quiet_lm" in FAMILIES.usable()
print(json.dumps([len(names), imported, usable, sorted({"torch", "transformers"} & {*sys.modules}),
                  "voxsweep_example.quiet_lm" in sys.modules]))
"""
    environment = os.environ | {"PYTHONPATH": f"{example}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    )
    count, *rest = json.loads(done.stdout)
    assert count == 4 + 31 + 2 + 4
    assert rest == [[], True, [], False]

"""Plug-ins that cannot be used: whose name clashes, or that do not import."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.plugins import PluginError
from cluster.storage.base import STORAGES, open_storage
from jobs.export.formats import EXPORTERS, exporter
from jobs.families.registry import FAMILIES, load_base
from jobs.metrics.catalogue import METRICS, metric_problems
from jobs.problems import InputError
from jobs.spec.metric import MetricSpec
from orchestrator.doctor import examine
from orchestrator.spec.reading import read_spec
from tests.embedded_voice import EMBEDDED_HOST

ROOT = Path(__file__).parents[2]


class Installed:
    """Distributions of entry points alone, as importlib.metadata finds them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, group: str, entry: str, module: str = "") -> None:
        """``module`` is the text of ``NAME.py``."""
        info = self._folder / f"{name}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[voxsweep.{group}]\n{entry}\n")
        (self._folder / f"{name}.py").write_text(module)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    modules = {*sys.modules}
    yield Installed(tmp_path)
    for name in {*sys.modules} - modules:
        del sys.modules[name]


def write_demo(path: Path, **changes: object) -> Path:
    spec = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    path.write_text(yaml.safe_dump(spec | changes))
    return path


def test_a_name_that_is_built_in_is_an_error_that_names_both(installed: Installed, tmp_path: Path):
    installed.add("thief", "families", "codec_lm = thief:FAMILY")
    with pytest.raises(PluginError, match=r"codec_lm comes from voxsweep itself and from thief 2"):
        FAMILIES["codec_lm"]
    assert FAMILIES["qwen3_tts"]
    with pytest.raises(InputError, match=r"sweep.yaml:\d+: .*from thief 2\.0\. Uninstall all but"):
        read_spec(write_demo(tmp_path / "sweep.yaml", family="codec_lm"))


def test_a_name_that_two_plug_ins_have_is_an_error_that_names_both(installed: Installed):
    for name in ("one", "other"):
        installed.add(name, "storages", f"place = {name}:STORAGE")
    with pytest.raises(ValueError, match=r"place comes from one 2.0 and from other 2.0\. Un"):
        open_storage("place://x")
    assert open_storage("s3://voices/x").url == "s3://voices/x"
    assert [*STORAGES] == ["s3", "place"]


def test_a_plug_in_that_does_not_import_fails_only_where_it_is_asked_for(
    installed: Installed, tmp_path: Path
):
    broken = "import no_such_module"
    installed.add("broken", "metrics", "bad = broken:BAD", broken)
    installed.add("broken_format", "export_formats", "codec_lm.bad = broken_format:BAD", broken)
    assert read_spec(write_demo(tmp_path / "sweep.yaml"))
    assert "bad" in METRICS
    assert "bad" not in METRICS.usable()
    (problem,) = metric_problems([MetricSpec(name="duration"), MetricSpec(name="bad")])
    assert problem[0] == 1
    assert problem[1].endswith(
        "bad of voxsweep.metrics comes from broken 2.0, which cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
    with pytest.raises(InputError, match=r"broken_format 2\.0, which cannot be imported"):
        exporter("codec_lm", "bad")
    assert exporter("codec_lm", "peft") is EXPORTERS["codec_lm.peft"]
    told = [line for line in examine().lines() if line.startswith("plug-in")]
    assert len(told) == 2
    assert told[0].startswith(
        "plug-in: bad of voxsweep.metrics comes from broken 2.0, which cannot"
    )


def test_an_entry_of_another_kind_is_refused(installed: Installed):
    installed.add("odd", "families", "odd = odd:FAMILY", "FAMILY = 1")
    with pytest.raises(PluginError, match="must be a Family, but odd:FAMILY is a int"):
        load_base(EMBEDDED_HOST.model_copy(update={"family": "odd"}))


def test_a_scorer_must_have_the_metric_that_it_is_named_for(installed: Installed):
    module = "from jobs.metrics.catalogue import METRICS\nODD = METRICS['duration']"
    installed.add("odd_metric", "metrics", "odd = odd_metric:ODD", module)
    (problem,) = metric_problems([MetricSpec(name="odd")])
    assert problem[1] == "a scorer must have odd in its directions, got ['duration']"

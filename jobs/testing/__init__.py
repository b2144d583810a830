"""Contract tests that a plug-in's author runs on a family or a metric, as voxsweep does on its own.

Subclass a battery in a test file and say what it is of; see ``docs/plugins.md``. Only these modules
need pytest.
"""

import pytest

pytest.register_assert_rewrite("jobs.testing.families", "jobs.testing.metrics")

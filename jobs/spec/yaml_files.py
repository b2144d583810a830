"""YAML as its version 1.2 reads numbers, which is how people write them.

PyYAML reads by version 1.1, in which ``1e-4`` and ``1.5e3`` are texts.
"""

import re
from typing import Any

import yaml

_NUMBER = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
"""A float of YAML 1.2 (its section 10.3.2). Integers come first, and stay integers."""


class YamlLoader(yaml.SafeLoader):
    """Reads files of users, and what :class:`YamlDumper` wrote."""


class YamlDumper(yaml.SafeDumper):
    """Quotes a text that :class:`YamlLoader` would read as a number."""


for _each in (YamlLoader, YamlDumper):
    _each.add_implicit_resolver(*_NUMBER)


def load_yaml(text: str) -> Any:  # noqa: ANN401 (YAML)
    """The document as data. Raises yaml.YAMLError where it is none."""
    return YamlLoader(text).get_single_data()


def dump_yaml(data: object) -> str:
    """The inverse of :func:`load_yaml`; keys keep their order."""
    return str(yaml.dump(data, Dumper=YamlDumper, sort_keys=False, allow_unicode=True))

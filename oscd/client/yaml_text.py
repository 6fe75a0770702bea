"""Owns YAML: the part of it that says what JSON can say.

Read as YAML 1.2 reads it (its core schema: `no` is text, a date is text). Refused is what JSON has no word for: tags,
aliases, merge keys, `0x1F`, `0o17`, `.inf`, `.nan`. Written so that YAML 1.1 reads the same. Must not know entries.
Only this module imports `yaml`.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from oscd.client.errors import UsageRefused

MAX_CHARACTERS: Final = 8 * 1024 * 1024
"""The reader is written in Python and takes some 10 s for so many; a larger document goes as JSON."""

_STRING_TAG: Final = "tag:yaml.org,2002:str"
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
_CORE: Final = (
    ("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789")),
    ("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789")),
)

_NOT_JSON: Final = re.compile(r"(?:0x[0-9a-fA-F]+|0o[0-7]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
"""The rest of the core schema."""

# PyYAML writes these as they are where it quotes singly or not at all, and then reads them back as something else.
_ESCAPED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


class _Reader(yaml.SafeLoader):
    """Refuses what JSON cannot say, and what says something twice."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        # An alias lets few bytes stand for a great many.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise UsageRefused(f"line {mark.line + 1}: an alias; write out what it stands for")
        return super().compose_node(parent, index)


class _Writer(yaml.SafeDumper):
    """Never an alias, and quotes what either version of YAML would take for another kind of scalar."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def dump_yaml(document: Any) -> str:  # noqa: ANN401 - whatever JSON can say
    """The text of a document."""
    return yaml.dump(document, Dumper=_Writer, allow_unicode=True, sort_keys=False, width=2**31)


def load_yaml(text: str) -> Any:  # noqa: ANN401 - whatever JSON can say
    """The document of a text.

    Raises:
        UsageRefused: It is no YAML, or more than JSON can say. Says the line, and repeats nothing.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageRefused(f"is larger than {MAX_CHARACTERS} characters; accepted beyond that is JSON")
    refused: str
    try:
        return yaml.load(text, Loader=_Reader)  # noqa: S506 - a safe loader, made stricter
    except yaml.MarkedYAMLError as error:
        # Neither the context nor the snippet of the error, which hold what is in the file.
        mark = error.problem_mark
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        refused = f"{place}accepted is YAML that says what JSON can say"
    except yaml.YAMLError:
        refused = "holds a character that YAML does not allow"
    except RecursionError:
        refused = "is nested too deeply"
    raise UsageRefused(refused)


def _string(writer: yaml.SafeDumper, text: str) -> ScalarNode:
    style = '"' if _ESCAPED.search(text) else None
    return writer.represent_scalar(_STRING_TAG, text, style)


def _mapping(reader: _Reader, node: MappingNode) -> Any:  # noqa: ANN401 - PyYAML's protocol of two steps
    made: dict[str, Any] = {}
    yield made
    for name_node, value_node in node.value:
        if name_node.tag == _STRING_TAG and name_node.value == "<<" and name_node.style is None:
            raise UsageRefused(
                f"line {name_node.start_mark.line + 1}: a merge key; write out what it stands for"
            )
        name = reader.construct_object(name_node, deep=True)
        if not isinstance(name, str):
            raise UsageRefused(f"line {name_node.start_mark.line + 1}: accepted as a name is text; quote it")
        if name in made:
            raise UsageRefused(f"line {name_node.start_mark.line + 1}: the name comes twice in one mapping")
        made[name] = reader.construct_object(value_node, deep=True)


def _integer(reader: _Reader, node: ScalarNode) -> int:
    digits = str(reader.construct_scalar(node))
    if len(digits) > 21:
        raise UsageRefused(f"line {node.start_mark.line + 1}: an integer beyond 64 bits; quote it")
    return int(digits)


def _float(reader: _Reader, node: ScalarNode) -> float:
    return float(str(reader.construct_scalar(node)))


def _other(reader: _Reader, node: Node) -> object:
    raise UsageRefused(f"line {node.start_mark.line + 1}: a tag, or what JSON cannot say")


_Reader.yaml_implicit_resolvers = {}
_Reader.yaml_constructors = {}
for _tag, _pattern, _first in _CORE:
    _Reader.add_implicit_resolver(_tag, _pattern, _first)
_Reader.add_implicit_resolver("tag:yaml.org,2002:other", _NOT_JSON, list("-+.0"))
_Writer.add_implicit_resolver("tag:yaml.org,2002:other", _NOT_JSON, list("-+.0"))
_Writer.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Writer.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Writer.add_representer(str, _string)
for _kind in ("null", "bool", "str", "seq"):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Reader.add_constructor(_tag, yaml.SafeLoader.yaml_constructors[_tag])
_Reader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Reader.add_constructor("tag:yaml.org,2002:int", _integer)
_Reader.add_constructor("tag:yaml.org,2002:float", _float)
_Reader.add_constructor(None, _other)

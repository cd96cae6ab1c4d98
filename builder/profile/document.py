"""Strict YAML: plain values, and the line on which each of them stands.

A profile is data that people review, so what makes YAML surprising is refused: anchors, aliases, tags, merge keys,
several documents, a key given twice. Scalars follow YAML 1.2's core schema without octal and hexadecimal: `no`, `1:30`
and `2031-12-31` are text, not a boolean, a number and a date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from appliance.core.errors import Place
from builder.profile.problem import Path, Problem, ProfileError, path_text

MAXIMUM_BYTES = 256 * 1024
MAXIMUM_DEPTH = 16

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True)
class Document:
    """One decoded YAML document.

    value: dict, list, str, int, float, bool, None, nested.
    lines: the line, counted from 1, of every value; a mapping's value has the line of its key.
    problems: keys given twice; the first one counts.
    """

    file: str
    value: Any
    lines: dict[Path, int]
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Where `path` stands; for a path that is not there, where its nearest holder stands."""
        while path not in self.lines:
            path = path[:-1]
        return Place(self.file, self.lines[path])


def decode_document(data: bytes, *, file: str) -> Document:
    """file: its name, for places. Raises ProfileError on anything but one strict YAML document."""
    text = _text(data, file)
    try:
        _refuse_surprises(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, file) from error
    document = Document(file, None, {(): 1})
    if node is None:
        raise _refusal(file, 1, "the file is empty", "copy one of profiles/ and change it")
    return Document(file, _construct(node, (), document), document.lines, document.problems)


def _text(data: bytes, file: str) -> str:
    if len(data) > MAXIMUM_BYTES:
        raise _refusal(file, None, f"larger than {MAXIMUM_BYTES} bytes", "a profile is a page or two of text")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _refusal(file, line, "not UTF-8 text", "save the file as UTF-8") from error


def _refuse_surprises(text: str, file: str) -> None:
    """Walk the events, which needs no recursion, before anything is built from them."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if documents > 1:
            raise _refusal(file, line, "a second document", "one profile a file: remove the line `---`")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refusal(file, line, "anchors and aliases are refused", "write the value out where it is used")
        if tag := getattr(event, "tag", None):
            raise _refusal(file, line, f"the tag {tag} is refused", "write the plain value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAXIMUM_DEPTH:
            raise _refusal(
                file, line, f"nested deeper than {MAXIMUM_DEPTH} levels", "a profile nests no more than five"
            )


def _construct(node: yaml.Node, path: Path, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*path, number), document) for number, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return node.value if node.style else _plain(node.value)


def _mapping(node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise _refusal(document.file, line, "a key is text, not a list or a mapping", "write `KEY: VALUE`")
        key = key_node.value
        here = (*path, key)
        if key in values:
            first = document.lines[here]
            document.problems.append(
                Problem(
                    Place(document.file, line), f"{path_text(here)}: key given twice", f"the first is on line {first}"
                )
            )
            continue
        document.lines[here] = line
        values[key] = _construct(value_node, here, document)
    return values


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _refusal(file: str, line: int | None, message: str, hint: str) -> ProfileError:
    return ProfileError([Problem(Place(file, line), message, hint)])


def _not_yaml(error: yaml.YAMLError, text: str, file: str) -> ProfileError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        told = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "look at this line and above it for a tab, an indentation, a quote or a bracket that is not closed"
        if error.context == "while scanning an alias":
            hint = "`*` begins an alias, which is refused: name what you mean"
        return _refusal(file, mark.line + 1, f"not YAML: {told} (column {mark.column + 1})", hint)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return _refusal(
            file, line, f"not YAML: the character U+{error.character:04X}", "remove it; it may not be visible"
        )
    return _refusal(file, None, f"not YAML: {error}", "compare it with one of profiles/")

"""Syntax trees of source files, each parsed once for all tests of a process that look at it."""

import ast
import functools
from pathlib import Path


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@functools.cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    """Every node of a file."""
    return tuple(ast.walk(_tree(file)))

"""The package as text and syntax trees, for the checks beside this file."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    """One module of the package."""

    name: str  # "balancer.proxy.relay"
    path: Path
    text: str
    tree: ast.Module

    def is_in(self, package: str) -> bool:
        """Whether it is that module or lies in that package."""
        return self.name == package or self.name.startswith(package + ".")

    def at(self, line: int) -> str:
        """file:line, as editors understand it."""
        return f"{self.path.relative_to(ROOT)}:{line}"


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the package, by name."""
    found = []
    for path in sorted((ROOT / "balancer").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text()
        found.append(Module(name, path, text, ast.parse(text, str(path))))
    return tuple(found)


def imports(module: Module) -> Iterator[tuple[str, int]]:
    """(what is imported, line), with full names: "trio.lowlevel", "signal"."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def uses(module: Module) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything that is read or called, with import aliases undone: "time.sleep", "print"."""
    known: dict[str, str | None] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name.partition(".")[0]: alias.asname and alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = dotted(node)
            if name:
                first, dot, rest = name.partition(".")
                yield (known.get(first) or first) + dot + rest, node.lineno


def dotted(node: ast.expr) -> str:
    """ "a.b.c" for names and attributes of names, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""

"""What imports each other cannot be understood, tested or moved one by one."""

import ast
from collections.abc import Iterator

from tests.architecture.source import Module, modules

# Modules that name each other's types → why that is so. None of them loads another in a circle.
OF_TYPES: dict[frozenset[str], str] = {
    frozenset({"balancer.net.poller", "balancer.net.wire"}): (
        "the poller tells a wire what the kernel says of it, and a wire tells the poller what it waits for"
    ),
    frozenset({"balancer.proxy.backend", "balancer.proxy.pool", "balancer.proxy.upstream"}): (
        "a request goes from the pool to a backend to a connection, and what becomes of it goes back the same way: "
        "anything in between, a table or an interface, would cost each request"
    ),
    frozenset(f"balancer.supervisor.{name}" for name in ("operations", "process", "readings", "reload", "verbs")): (
        "the supervisor makes what acts on the whole or shows the whole, and so that gets the whole"
    ),
}


def ties(module: Module, names: set[str], with_types: bool) -> Iterator[str]:
    """Modules that it imports, in functions too. with_types: those as well that only a type checker reads."""
    for node in _read(module.tree, with_types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in names or node.module in names:
                    yield whole if whole in names else node.module


def _read(tree: ast.AST, with_types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if with_types or not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from _read(node, with_types)


def circles(with_types: bool) -> set[frozenset[str]]:
    """Modules each of which leads to all others of its circle."""
    names = {module.name for module in modules()}
    direct = {module.name: set(ties(module, names, with_types)) for module in modules()}
    reached = {name: _reached(name, direct) for name in names}
    return {
        frozenset(other for other in reached[name] if name in reached[other]) for name in names if name in reached[name]
    }


def _reached(name: str, direct: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [name]
    while ahead:
        new = direct[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def test_none_when_the_program_runs() -> None:
    assert [sorted(circle) for circle in circles(with_types=False)] == []


def test_none_of_types_but_those_that_are_argued() -> None:
    found = circles(with_types=True)
    assert [sorted(circle) for circle in found - set(OF_TYPES)] == []
    assert [sorted(circle) for circle in set(OF_TYPES) - found] == [], "it has gone or shrunk: so does the table"

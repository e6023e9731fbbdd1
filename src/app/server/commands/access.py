"""`litestar access`. Like `server/commands/up.py`, it imports no feature."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import rich_click as click
from litestar import Litestar

from app.server.commands.refusals import Commands, echo_items, json_option


@click.group(cls=Commands)
def access() -> None:
    """Look at who may do what."""


@access.command()
@json_option
def audit(app: Litestar, *, as_json: bool) -> None:
    """Print every route with its rule, and what it asks of an API key. Exit 1 when something is amiss."""
    inspection = app.state.access_inspection
    routes, gaps = inspection.routes(app), inspection.gaps(app)
    if as_json:
        echo_items(routes, gaps=gaps)
    else:
        _show_audit(routes, gaps)
    sys.exit(1 if gaps else 0)


def _show_audit(routes: Sequence[Any], gaps: Sequence[str]) -> None:
    widths = [max(len(str(route[column])) for route in routes) for column in range(3)]
    for method, path, rule, scope in routes:
        click.echo(f"{method:{widths[0]}}  {path:{widths[1]}}  {rule:{widths[2]}}  {scope or '-'}")
    click.echo(f"\n{len(routes)} routes, {len(gaps) or 'no'} {'gap' if len(gaps) == 1 else 'gaps'}.")
    for gap in gaps:
        click.echo(f"Gap: {gap}.")


@access.command()
@click.argument("user")
@click.argument("resource")
@click.argument("action")
@click.argument("object_id", metavar="[OBJECT]", required=False, type=click.UUID)
@json_option
def explain(app: Litestar, user: str, resource: str, action: str, object_id: UUID | None, *, as_json: bool) -> None:
    """Say whether USER (an id or an address) may do ACTION to RESOURCE, and by which rules.

    OBJECT is the id of one; without it, the question is whether there is any to which they may do it.
    """
    said = app.state.access_inspection.explain(user, resource, action, object_id)
    if as_json:
        echo_items(said.matched, allowed=said.allowed, reason=said.reason, roles=said.roles)
        return
    click.echo(f"{'allowed' if said.allowed else 'refused'} ({said.reason})")
    for rule in said.matched:
        holder = f"role {rule.role}" if rule.role else "the user"
        conditions = [f"on {rule.object_id}" if rule.object_id else "", f"if {rule.rule}" if rule.rule else ""]
        shown = " ".join(part for part in (rule.effect, f"{rule.resource}:{rule.action}", *conditions) if part)
        click.echo(f"{shown}  (to {holder}, {rule.id})")
    if said.roles:
        click.echo(f"through {', '.join(said.roles)}")


@access.command()
def export(app: Litestar) -> None:
    """Print the policy as JSON, for `diff`."""
    click.echo(app.state.access_inspection.export())


@access.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def diff(app: Litestar, file: Path, *, as_json: bool) -> None:
    """Print the decisions in the audit log that the policy in FILE would turn round. Exit 1 when there are any."""
    flips = app.state.access_inspection.flips(file.read_bytes())
    if as_json:
        echo_items(flips)
    else:
        _show_flips(flips)
    sys.exit(1 if flips else 0)


def _show_flips(flips: Sequence[Any]) -> None:
    for flip in flips:
        sides = ("allowed now, refused then", "refused now, allowed then")[not flip.is_allowed]
        what = ", ".join(f"{name}={value}" for name, value in (flip.attributes or {}).items())
        click.echo(f"{flip.email}  {flip.permission}  {sides}  {what}".rstrip())
    click.echo(f"{len(flips) or 'No'} recorded {'decision' if len(flips) == 1 else 'decisions'} would change.")

"""The metrics of the code, of the documentation, of the dashboard and of the alerts are the same."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from app.domain.audit.models import Action
from app.lib.settings import CHECKOUT
from app.server.errors import ANSWERS
from app.server.metrics.metrics import FAMILIES, OUTCOMES, Family

pytestmark = pytest.mark.unit

OBSERVABILITY = CHECKOUT / "deploy" / "observability"
DOCUMENT = (CHECKOUT / "docs" / "observability.md").read_text()
DASHBOARD = json.loads((OBSERVABILITY / "grafana-dashboard.json").read_text())
ALERTS = [
    rule for group in yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"\b(?P<metric>[a-z_]\w*)\s*(?:\{(?P<matchers>[^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
WORDS = {
    *("sum", "max", "rate", "increase", "histogram_quantile", "topk", "absent", "vector"),
    *("by", "and", "or", "offset"),
}
"""Of PromQL, those that we use."""
OF_TARGETS = {"instance", "job"}
"""Labels that Prometheus adds."""


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']} {target['refId']}", target["expr"]
    for rule in ALERTS:
        yield f"alert {rule['alert']}", rule["expr"]


EXPRESSIONS = dict(expressions())


def series() -> dict[str, set[str]]:
    """What the code exposes: the labels of each, by name."""
    found: dict[str, set[str]] = {"up": set()}
    for family in FAMILIES.values():
        match family.kind:
            case "counter":
                found[f"{family.name}_total"] = set(family.labels)
            case "gauge":
                found[family.name] = set(family.labels)
            case "histogram":
                found |= {f"{family.name}_{part}": set(family.labels) for part in ("sum", "count")}
                found[f"{family.name}_bucket"] = {*family.labels, "le"}
    return found


SERIES = series()


@pytest.mark.parametrize("name", EXPRESSIONS, ids=str)
def test_every_metric_and_label_that_is_asked_for_exists(name: str) -> None:
    bare = STRING.sub('""', EXPRESSIONS[name])
    grouped = {label.strip() for group in GROUPING.findall(bare) for label in group.split(",")}
    rest = re.sub(r"\[[^\]]*\]|\boffset \w+", "", GROUPING.sub("", bare))
    known = set(OF_TARGETS)
    asked = [found for found in SELECTOR.finditer(rest) if found["metric"] not in WORDS]

    assert asked
    for found in asked:
        assert found["metric"] in SERIES, found["metric"]
        labels = SERIES[found["metric"]] | OF_TARGETS
        assert set(MATCHER.findall(found["matchers"] or "")) <= labels, found["metric"]
        known |= labels
    assert grouped <= known


@pytest.mark.parametrize("name", EXPRESSIONS, ids=str)
def test_every_bracket_and_quote_is_closed(name: str) -> None:
    rest = re.sub(r"[^][(){}\"]", "", STRING.sub("", EXPRESSIONS[name]))
    while (inner := re.sub(r"\(\)|\[\]|\{\}", "", rest)) != rest:
        rest = inner

    assert rest == ""


def values_of(label: str, metric: str) -> set[str]:
    """Which values of a label are asked for anywhere."""
    pattern = re.compile(rf'{metric}\w*\{{[^}}]*\b{label}(?:=~|!~|!=|=)"([^"]*)"')
    return {value for text in EXPRESSIONS.values() for found in pattern.findall(text) for value in found.split("|")}


@pytest.mark.parametrize(
    ("metric", "label", "known"),
    [
        ("keel_audit_events", "action", {str(each) for each in Action}),
        ("keel_problems", "code", {answer.code for answer in ANSWERS.values()}),
        ("keel_jobs", "outcome", {*OUTCOMES.values(), "taken"}),
        ("keel_event_feed", "feed", {"events", "policy", "cache"}),
        ("keel_job_queue", "state", {"due", "later", "active", "dead"}),
        ("keel_processes", "kind", {"api", "worker"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_value_that_is_asked_for_can_be_there(metric: str, label: str, known: set[str]) -> None:
    asked = values_of(label, metric)

    assert asked
    for value in asked:
        assert any(re.fullmatch(value, each) for each in known), value


def test_every_metric_is_shown_somewhere() -> None:
    text = " ".join(EXPRESSIONS.values())

    assert [name for name in FAMILIES if not re.search(rf"\b{name}", text)] == []


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_the_documentation_describes_it(family: Family) -> None:
    name = f"{family.name}_total" if family.kind == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in family.labels)
    row = f"| `{name}` | {family.kind} | {labels} | {family.meaning} |".replace("|  |", "| |")

    assert row in DOCUMENT.splitlines()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_the_documentation_says_what_to_do_about_it(rule: dict[str, Any]) -> None:
    assert f"| `{rule['alert']}` | " in DOCUMENT
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]


def test_the_dashboard_can_be_imported() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert len(set(places)) == len(places)
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        *("Traffic", "Errors", "Latency", "Database and threads", "Events, policy and cache", "Jobs", "Security")
    ]


def test_prometheus_accepts_the_rules_and_its_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool here: the Debian package `prometheus` has it")
    for arguments in (["rules", "alerts.yaml"], ["config", "--syntax-only", "prometheus.yaml"]):
        done = subprocess.run([promtool, "check", *arguments], cwd=OBSERVABILITY, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

"""`deploy/kubernetes`: valid, restricted, and of one mind with the image and the code."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.lib.settings import CHECKOUT, Settings
from app.server.commands.jobs import worker
from app.server.commands.serve import serve
from app.server.envelope import longest_request
from tests.dockerfile import stages

pytestmark = pytest.mark.unit

KUBERNETES = CHECKOUT / "deploy" / "kubernetes"
NEWEST = kubernetes_validate.latest_version()
FINAL = stages(CHECKOUT / "deploy" / "Dockerfile")["production"]
NAME = "app.kubernetes.io/name"


def manifests() -> Iterator[dict[str, Any]]:
    for path in sorted((KUBERNETES / "base").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text())


MANIFESTS = {f"{each['kind']} {each['metadata']['name']}": each for each in manifests()}
PODS = {name: each["spec"]["template"] for name, each in MANIFESTS.items() if "template" in each.get("spec", {})}


@pytest.mark.parametrize("name", MANIFESTS)
def test_it_is_what_kubernetes_calls_valid(name: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], NEWEST, strict=True)


@pytest.mark.parametrize("folder", ["base", "example"])
def test_what_the_kustomizations_name_is_there(folder: str) -> None:
    kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    generators = kustomization.get("configMapGenerator", []) + kustomization.get("secretGenerator", [])
    named = kustomization["resources"] + [file for each in generators for file in each.get("envs", [])]

    for file in named:
        path = KUBERNETES / folder / file
        assert path.exists() or path.with_name(f"{path.name}.example").exists(), file
    if folder == "base":
        assert {path.name for path in (KUBERNETES / "base").iterdir()} == {*named, "kustomization.yaml"}


@pytest.mark.parametrize("name", PODS)
def test_pods_meet_the_restricted_standard(name: str) -> None:
    spec = PODS[name]["spec"]
    [container] = spec["containers"]
    user, group = map(int, FINAL.last("USER").split(":"))

    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert set(container["resources"]) == {"requests", "limits"}
    assert container["image"] == "keel"


@pytest.mark.parametrize("name", PODS)
def test_pods_are_those_that_the_selectors_mean(name: str) -> None:
    labels = PODS[name]["metadata"]["labels"]

    assert labels[NAME] == "keel"
    wanted = MANIFESTS[name]["spec"].get("selector", {}).get("matchLabels", labels)
    assert wanted.items() <= labels.items()
    if name == "Deployment keel-api":
        assert MANIFESTS["Service keel-api"]["spec"]["selector"] == wanted


def options_of(name: str) -> dict[str, Any]:
    [container] = PODS[name]["spec"]["containers"]
    command, *options = container["args"]
    return {"serve": serve, "worker": worker}[command].make_context(command, options).params


def test_nobody_is_killed_who_may_still_end_in_order(settings: Settings) -> None:
    api, jobs = PODS["Deployment keel-api"]["spec"], PODS["Deployment keel-worker"]["spec"]

    assert api["terminationGracePeriodSeconds"] > options_of("Deployment keel-api")["drain"] + longest_request(settings)
    assert jobs["terminationGracePeriodSeconds"] > options_of("Deployment keel-worker")["grace"]
    for name in ("Deployment keel-api", "Deployment keel-worker"):
        assert MANIFESTS[name]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_probes_ask_the_right_routes_of_the_right_port() -> None:
    [container] = PODS["Deployment keel-api"]["spec"]["containers"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}

    assert probes == {
        "startup": {"path": "/health/live", "port": "http"},
        "liveness": {"path": "/health/live", "port": "http"},
        "readiness": {"path": "/health/ready", "port": "http"},
    }
    assert {"name": "http", "containerPort": int(FINAL.last("EXPOSE"))} in container["ports"]


@pytest.mark.parametrize("name", ["Deployment keel-api", "Deployment keel-worker"])
def test_prometheus_finds_the_port_on_which_the_figures_are(name: str) -> None:
    [container] = PODS[name]["spec"]["containers"]
    [port] = re.findall(r"^METRICS_PORT=(\d+)$", (KUBERNETES / "base" / "settings.env").read_text(), re.MULTILINE)

    assert {"name": "metrics", "containerPort": int(port)} in container["ports"]
    assert PODS[name]["metadata"]["annotations"] == {"prometheus.io/scrape": "true", "prometheus.io/port": port}
    assert not FINAL.environment["LOCAL_DIR"].startswith("/opt")


def test_settings_are_those_of_the_application_and_secrets_come_by_name() -> None:
    known = {name.upper() for name in Settings.model_fields}
    secrets = sorted((KUBERNETES / "example").glob("*.env.example"))
    files = [KUBERNETES / "base" / "settings.env", *secrets]
    lines = [line for file in files for line in file.read_text().splitlines() if not line.startswith("#")]

    assert {line.partition("=")[0] for line in lines} <= known
    assert not [line for path in secrets for line in path.read_text().splitlines() if line.partition("=")[2]]
    for name, pod in PODS.items():
        [container] = pod["spec"]["containers"]
        owner = [{"secretRef": {"name": "keel-migrate", "optional": True}}] if name == "Job keel-migrate" else []
        assert container["envFrom"] == [{"configMapRef": {"name": "keel"}}, {"secretRef": {"name": "keel"}}, *owner]


def test_no_secret_that_somebody_fills_in_comes_into_the_repository() -> None:
    ignored = (CHECKOUT / ".gitignore").read_text().splitlines()

    assert {path.name.removesuffix(".example") for path in (KUBERNETES / "example").glob("*.example")} <= {*ignored}


def test_the_example_changes_every_host_of_the_ingress() -> None:
    ingress = MANIFESTS["Ingress keel-api"]
    [patch] = yaml.safe_load((KUBERNETES / "example" / "kustomization.yaml").read_text())["patches"]
    operations = yaml.safe_load(patch["patch"])

    assert patch["target"] == {"kind": ingress["kind"], "name": ingress["metadata"]["name"]}
    assert {each["op"] for each in operations} == {"replace"}
    assert {each["path"] for each in operations} == {"/spec/rules/0/host", "/spec/tls/0/hosts/0"}
    assert [len(ingress["spec"]["rules"]), [len(each["hosts"]) for each in ingress["spec"]["tls"]]] == [1, [1]]


def test_a_server_of_postgresql_as_it_comes_has_connections_for_all_pods_during_a_rollout(settings: Settings) -> None:
    """See docs/deployment.md, Scaling: what is in brackets, and three that are kept for superusers."""
    pods = MANIFESTS["HorizontalPodAutoscaler keel-api"]["spec"]["maxReplicas"] + 1
    workers = MANIFESTS["Deployment keel-worker"]["spec"]["replicas"] + 1

    assert pods * (settings.db_pool_size + 5) + workers * (settings.job_concurrency + 6) + 3 <= 100


def test_the_job_of_prometheus_for_pods_keeps_the_port_on_which_they_answer() -> None:
    """It stands in comments."""
    text = (CHECKOUT / "deploy" / "observability" / "prometheus.yaml").read_text()
    job = yaml.safe_load("\n".join(re.findall(r"^    # ((?:  - |\w+:$).*)$", text, re.MULTILINE)) + "\n")

    assert job["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["keel"]}}]
    assert [(each["regex"], each["action"]) for each in job["relabel_configs"]] == [("metrics", "keep")]


def test_nothing_passes_that_no_policy_lets_through() -> None:
    everything = MANIFESTS["NetworkPolicy nothing-by-default"]["spec"]

    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    [way_in] = MANIFESTS["NetworkPolicy ingress-to-api"]["spec"]["ingress"]
    assert [port["port"] for port in way_in["ports"]] == ["http"]

"""The manifests: valid by Kubernetes' own schemas, and of one piece with each other and with us."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from loomproxy.config.judge import judged
from loomproxy.config.load import parse
from loomproxy.config.model import Config
from loomproxy.node.control import KILL_MARGIN_S, STEP_TIMEOUT_S
from loomproxy.node.guests import END_TIMEOUT_S

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
VERSIONS = ("1.27", "1.31", "1.34")
NAME = {"app.kubernetes.io/name": "loomproxy"}


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def pod() -> Any:
    return manifest("deployment")["spec"]["template"]


def container() -> Any:
    (only,) = pod()["spec"]["containers"]
    return only


def configuration() -> Config:
    secret = manifest("secret")["stringData"]
    known = {"POD_NAME": "loomproxy-1", "POD_IP": "10.0.0.7", "NODE_NAME": "node-1", **secret}
    text = manifest("configmap")["data"]["loomproxy.yaml"]
    config = judged(parse(text, "/etc/loomproxy/loomproxy.yaml", known))
    assert isinstance(config, Config), str(config)
    return config


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_manifest_is_what_kubernetes_takes(path: Path, version: str) -> None:
    kubernetes_validate.validate(yaml.safe_load(path.read_text()), version, strict=True)


def test_the_validation_can_fail() -> None:
    broken = manifest("hpa")
    broken["spec"]["minReplicas"] = "three"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_the_kustomization_names_every_manifest() -> None:
    named = manifest("kustomization")["resources"]
    assert sorted(named) == [path.name for path in FILES]


def test_the_configuration_is_one_that_we_take_and_reads_what_the_pod_has() -> None:
    config = configuration()
    given = {one["name"] for one in container()["env"]} | set(manifest("secret")["stringData"])
    text = manifest("configmap")["data"]["loomproxy.yaml"]
    for name in ("POD_NAME", "POD_IP", "NODE_NAME", "DATABASE_DSN", "ADMIN_TOKEN"):
        assert f"${{{name}}}" in text
        assert name in given
    assert config.static.database is not None
    assert config.static.database.type == "postgres"
    assert config.static.cluster.addresses == ("10.0.0.7:8080",)


def test_ports_and_probes_are_where_the_configuration_has_them() -> None:
    config = configuration()
    (listener,) = config.static.listeners
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert listener.address.endswith(f":{ports['http']}")
    assert listener.health
    assert config.static.admin.address.endswith(f":{ports['admin']}")
    assert config.static.admin.token, "an address for all has a token"
    probes = {name: container()[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert probes["livenessProbe"] == {"path": "/health/live", "port": "http"}
    assert probes["readinessProbe"] == {"path": "/health/ready", "port": "http"}
    (port,) = manifest("service")["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_there_is_time_to_start_and_to_leave_in_order() -> None:
    config = configuration()
    startup = container()["startupProbe"]
    allowed_s = startup["periodSeconds"] * startup["failureThreshold"]
    assert allowed_s > config.static.node.startup_timeout_s
    drain, database = config.static.node.drain, config.static.database
    assert database is not None
    leaving_s = drain.grace_s + drain.deadline_s + KILL_MARGIN_S + 2 * STEP_TIMEOUT_S
    leaving_s += END_TIMEOUT_S + database.connect_timeout_s + 3 * database.statement_timeout_s
    assert pod()["spec"]["terminationGracePeriodSeconds"] > leaving_s
    readiness = container()["readinessProbe"]
    noticed_s = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert drain.grace_s > noticed_s, "a drain is noticed before it refuses anybody"


def test_selectors_meet_what_they_are_for() -> None:
    assert pod()["metadata"]["labels"] == NAME
    assert manifest("deployment")["spec"]["selector"]["matchLabels"] == NAME
    assert manifest("service")["spec"]["selector"] == NAME
    assert manifest("pdb")["spec"]["selector"]["matchLabels"] == NAME
    assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"] == NAME
    target = manifest("hpa")["spec"]["scaleTargetRef"]
    deployment = manifest("deployment")
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"], "two that say how many would fight"


def test_the_autoscaler_scales_as_the_guide_says() -> None:
    spec = manifest("hpa")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 10)
    targets = {
        one["resource"]["name"]: one["resource"]["target"]["averageUtilization"]
        for one in spec["metrics"]
    }
    assert targets == {"cpu": 70, "memory": 80}
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert container()["resources"]["requests"].keys() >= {"cpu", "memory"}, "utilisation of what"


def test_the_pod_may_do_nothing_that_it_need_not() -> None:
    assert pod()["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod()["spec"]["automountServiceAccountToken"] is False
    rights = container()["securityContext"]
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]}
    writable = {one["mountPath"] for one in container()["volumeMounts"] if not one.get("readOnly")}
    directories = {one["name"]: one.get("value") for one in container()["env"]}
    assert writable == {directories["RUNTIME_DIRECTORY"], directories["STATE_DIRECTORY"]}
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
    assert f"USER {pod()['spec']['securityContext']['runAsUser']}:" in dockerfile

"""The manifests hold against Kubernetes' own schemas, and name only what exists in the code."""

import copy
import importlib.util
import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from recloop.cli import app as cli
from recloop.delivery.exchange import SLOT_HEADER
from recloop.delivery.gateway import SCOPES
from recloop.delivery.kubernetes import Cluster
from recloop.delivery.slots import COLOURS
from recloop.serving.guard import OPEN
from recloop.settings import Places, load_params

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
FILES = [file for file in sorted(FOLDER.rglob("*.yaml")) if file.name != "kustomization.yaml"]
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))
ROUTE = Draft202012Validator(json.loads((FOLDER / "schemas" / "httproute.json").read_text()))
VERSION = "1.33"
BENTOML = {"/readyz", "/livez"}


def documents(file):
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


MANIFESTS = {f"{f.name}/{d['kind']}/{d['metadata'].get('name', '')}": d for f in FILES for d in documents(f)}


def faults(manifest):
    """What is wrong with a manifest, by the schema of its kind."""
    if manifest["kind"] == "HTTPRoute":
        return [error.message for error in ROUTE.iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error)]
    return []


def of_kind(*kinds):
    return {name: found for name, found in MANIFESTS.items() if found["kind"] in kinds}


def template(manifest):
    """The pod template of whatever runs pods."""
    spec = manifest["spec"]
    return spec["jobTemplate"]["spec"]["template"] if manifest["kind"] == "CronJob" else spec["template"]


PODS = of_kind("Deployment", "StatefulSet", "CronJob", "Job")
CONTAINERS = {name: template(pod)["spec"]["containers"][0] for name, pod in PODS.items()}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_holds_against_its_schema(name):
    assert faults(MANIFESTS[name]) == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replicas"), "two"),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "readinesProbe"), {}),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "http"),
        ("HorizontalPodAutoscaler", ("spec", "maxReplicas"), None),
        ("NetworkPolicy", ("spec", "ingres"), []),
        ("CronJob", ("spec", "concurrencyPolicy"), ["Forbid"]),
        ("HTTPRoute", ("spec", "rules", 0, "matches", 0, "header"), [{"name": "a", "value": "b"}]),
        ("HTTPRoute", ("spec", "rules", 0, "matches", 0, "method"), "SEND"),
        ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "port"), "http"),
        ("HTTPRoute", ("spec", "hostnames"), ["no_such host"]),
    ],
)
def test_a_mistake_is_seen(kind, path, value):
    wrong = copy.deepcopy(next(iter(of_kind(kind).values())))
    assert faults(wrong) == []
    place = wrong
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    assert faults(wrong)


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=lambda f: str(f.relative_to(FOLDER)))
def test_a_kustomization_names_files_that_exist_and_images_that_are_used(file):
    found = yaml.safe_load(file.read_text())
    for resource in found["resources"]:
        place = file.parent / resource
        assert place.is_file() or (place / "kustomization.yaml").is_file(), resource
    texts = "".join(f.read_text() for f in file.parent.glob("*.yaml"))
    assert all(f"image: {image['name']}\n" in texts for image in found.get("images", []))
    assert found["apiVersion"] == "kustomize.config.k8s.io/v1beta1"


def test_every_manifest_is_in_a_kustomization_or_made_by_hand():
    named = {
        (k.parent / r).resolve() for k in KUSTOMIZATIONS for r in yaml.safe_load(k.read_text())["resources"]
    }
    assert {file.name for file in FILES if file.resolve() not in named} == {"upgrade.yaml"}


def test_the_patch_of_header_routes_meets_the_variable_that_it_means():
    (patch,) = yaml.safe_load((FOLDER / "header-routes" / "kustomization.yaml").read_text())["patches"]
    (change,) = yaml.safe_load(patch["patch"])
    place = of_kind("CronJob")["controller.yaml/CronJob/controller"]
    *way, last = change["path"].strip("/").split("/")
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    assert place["name"] == "RECLOOP_SLOT_URL"
    assert last in place


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_as_weak_as_it_can_be(name):
    spec, container = template(PODS[name])["spec"], CONTAINERS[name]
    assert len(spec["containers"]) == 1
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert spec["enableServiceLinks"] is False, "a Service would set RECLOOP_… or HOST_PORT to an address"
    may_ask = name.startswith("controller")
    assert may_ask or spec["automountServiceAccountToken"] is False
    volumes = {v["name"] for v in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in PODS[name]["spec"].get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


@pytest.mark.parametrize("name", of_kind("Deployment", "StatefulSet"))
def test_what_stays_has_probes_of_paths_that_are_open(name):
    container = CONTAINERS[name]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if asked := container[probe].get("httpGet"):
            assert asked["port"] in ports
            path = asked["path"]
            assert path in BENTOML if "slot" in name else SCOPES[path] == OPEN, path


def words(container):
    return container.get("command", []) + container.get("args", [])


@pytest.mark.parametrize("name", PODS)
def test_what_is_run_exists_and_listens_where_the_port_says(name):
    container = CONTAINERS[name]
    said = words(container)
    if "-m" in said:
        assert importlib.util.find_spec(said[said.index("-m") + 1])
    elif said[:1] == ["recloop"]:
        groups = {group.name: group.typer_instance for group in cli.registered_groups}
        commands = [c.name or c.callback.__name__ for c in groups[said[1]].registered_commands]
        assert said[2] in commands
    if "--port" in said:
        assert int(said[said.index("--port") + 1]) == container["ports"][0]["containerPort"]


@pytest.mark.parametrize("name", PODS)
def test_variables_are_ones_that_the_code_reads(name):
    known = {f"RECLOOP_{field.upper()}" for field in Places.model_fields}
    sources = "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    for variable in CONTAINERS[name].get("env", []):
        own = variable["name"].startswith("RECLOOP_")
        assert not own or variable["name"] in known or f'"{variable["name"]}"' in sources, variable["name"]


def test_secrets_and_claims_are_those_that_the_document_says_to_make():
    text = (ROOT / "docs" / "production.md").read_text()
    for container in CONTAINERS.values():
        for variable in container.get("env", []):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert re.search(rf"{secret['name']}\b.*{secret['key']}=", text), secret


def test_gateways_and_slots_go_by_the_same_terms_which_are_those_of_params():
    (one,) = of_kind("ConfigMap").values()
    asked = {}
    for name, container in CONTAINERS.items():
        for variable in container.get("env", []):
            if variable["name"] == "RECLOOP_TERMS":
                asked[name] = variable["valueFrom"]["configMapKeyRef"]
    assert {name.rpartition("/")[2] for name in asked} == {"gateway", "slot-blue", "slot-green"}
    (key,) = {found["key"] for found in asked.values()}
    assert {found["name"] for found in asked.values()} == {one["metadata"]["name"]}
    assert json.loads(one["data"][key]) == load_params(ROOT / "params.yaml").privacy.terms.model_dump()


def selected(labels):
    return [
        name for name, pod in PODS.items() if labels.items() <= template(pod)["metadata"]["labels"].items()
    ]


def test_services_budgets_and_scalers_meet_their_pods():
    for name, service in of_kind("Service").items():
        (pod,) = selected(service["spec"]["selector"])
        ports = {port["name"]: port["containerPort"] for port in CONTAINERS[pod]["ports"]}
        assert [ports[port["targetPort"]] for port in service["spec"]["ports"]] == [
            port["port"] for port in service["spec"]["ports"]
        ], name
    for budget in of_kind("PodDisruptionBudget").values():
        assert len(selected(budget["spec"]["selector"]["matchLabels"])) == 1
    for name, pod in PODS.items():
        if wanted := pod["spec"].get("selector"):
            assert name in selected(wanted["matchLabels"])
    deployments = {found["metadata"]["name"] for found in of_kind("Deployment").values()}
    (scaler,) = of_kind("HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] in deployments
    assert scaler["spec"]["minReplicas"] >= 2
    (role,) = of_kind("Role").values()
    assert set(role["rules"][0]["resourceNames"]) == {f"slot-{colour}" for colour in COLOURS} <= deployments


def test_routes_lead_to_services_and_choose_by_the_gateway_s_header():
    services = {
        s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in of_kind("Service").values()
    }
    chosen = {}
    for route in of_kind("HTTPRoute").values():
        for rule in route["spec"]["rules"]:
            (backend,) = rule["backendRefs"]
            assert backend["port"] in services[backend["name"]]
            assert "weight" not in backend, "weights are drawn anew for each request"
            for match in rule["matches"]:
                assert match.get("path", {}).get("value", "/recommend") in SCOPES
                for header in match.get("headers", []):
                    chosen[header["name"], header["value"]] = backend["name"]
    assert chosen == {(SLOT_HEADER, colour): f"slot-{colour}" for colour in COLOURS}
    found = {name for name in services if name.startswith("slot-")}
    assert found == {Cluster("").slot_url.format(colour=c).split("/")[2].partition(":")[0] for c in COLOURS}


def test_only_who_must_may_reach_a_slot_and_everything_else_is_closed():
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind("NetworkPolicy").values()}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    (rule,) = policies["slot"]["ingress"]
    (peers,) = rule["from"]
    assert peers["podSelector"]["matchExpressions"][0]["values"] == ["gateway", "controller"]
    (rule,) = policies["gateway"]["ingress"]
    assert [list(peer) for peer in rule["from"]] == [["namespaceSelector"]], "gates read the store"
    for name, spec in policies.items():
        for entry in spec.get("ingress", []):
            pods = selected(spec["podSelector"]["matchLabels"])
            ports = {port["containerPort"] for pod in pods for port in CONTAINERS[pod]["ports"]}
            assert {port["port"] for port in entry["ports"]} == ports, name


def test_the_image_has_what_its_files_name():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / word).exists() for word in line.split()[1:-1]), line
    assert any(line.startswith("USER 10001") for line in lines)
    gateway, controller = (
        CONTAINERS["gateway.yaml/Deployment/gateway"],
        CONTAINERS["controller.yaml/CronJob/controller"],
    )
    assert json.loads(lines[-1].removeprefix("CMD ")) == gateway["command"]
    home = next(line.split()[1] for line in lines if line.startswith("WORKDIR"))
    assert all(m["mountPath"].startswith(home) for m in controller["volumeMounts"] if m["name"] == "loop")

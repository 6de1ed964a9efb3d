"""What guards the chart: it is linted, rendered, and every object is held to the schemas of three Kubernetes versions and to
what docs/install.md promises. Rules and dashboard ask only for metrics that docs/telemetry.md has.

Called by `scripts/test helm` with helm, promtool and the binary of this tree.
"""

import copy
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/sandyq"
HELM, PROMTOOL, SANDYQ = sys.argv[1:4]
VERSIONS = ["1.30", "1.33", "1.37"]
# Kinds of operators that Kubernetes has no schema for: they are looked at below.
FOREIGN = {"ServiceMonitor", "PrometheusRule", "Certificate"}
PRODUCTION = yaml.safe_load((ROOT / "docs/install.md").read_text().split("```yaml\n")[1].split("```")[0])
DEVELOPMENT = yaml.safe_load((CHART / "ci/development.yaml").read_text())


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def changed(values, path, value):
    """A copy of values in which one, named by its path, is another."""
    copied = copy.deepcopy(values)
    place = copied
    *above, last = path.split(".")
    for part in above:
        place = place.setdefault(part, {})
    place[last] = value
    return copied


TRACED = changed(
    changed(
        PRODUCTION,
        "telemetry.traces",
        {"endpoint": "https://collector.example.kz:4318", "existingSecret": "collector"},
    ),
    "networkPolicy.collector",
    [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
)


def helm(command, values, *arguments):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return run(HELM, command, *arguments, CHART, "--values", file.name)


def render(values):
    rendered = helm("template", values, "sandyq")
    assert rendered.returncode == 0, rendered.stderr
    documents = [document for document in yaml.safe_load_all(rendered.stdout) if document]
    objects = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(objects) == len(documents), "two objects have one name"
    for document in documents:
        if document["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    return objects


def refuses(values, *words):
    answered = helm("template", values, "sandyq")
    assert answered.returncode != 0, f"rendered, though {words} should be said"
    for word in words:
        assert word in answered.stderr, f"{word!r} is not in: {answered.stderr}"


def pods(objects):
    """Pod specs with their labels."""
    for (kind, name), document in objects.items():
        if kind == "Pod":
            yield name, document["metadata"]["labels"], document["spec"]
        elif kind in {"Deployment", "Job"}:
            template = document["spec"]["template"]
            yield name, template["metadata"]["labels"], template["spec"]


def restricted(objects):
    """Pod Security Standards, profile "restricted", and what we promise beyond it."""
    seen = 0
    for name, _, spec in pods(objects):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] >= 1000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(key), (name, key)
        assert spec["enableServiceLinks"] is False, name
        for volume in spec.get("volumes", []):
            kinds = set(volume) - {"name"}
            allowed = {"configMap", "secret", "projected", "persistentVolumeClaim", "emptyDir", "csi", "ephemeral"}
            assert kinds <= allowed, (name, volume)
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440, (name, volume)
        for container in spec.get("initContainers", []) + spec["containers"]:
            seen += 1
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, container["name"]
            assert own["readOnlyRootFilesystem"] is True, container["name"]
            assert own["capabilities"] == {"drop": ["ALL"]}, container["name"]
            assert not own.get("privileged"), container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]
            for variable in container.get("env", []):
                assert "secretKeyRef" not in variable.get("valueFrom", {}), "secrets come in files"
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted <= {volume["name"] for volume in spec.get("volumes", [])}, container["name"]
    assert seen >= 3, seen


def in_region(objects, values):
    for name, _, spec in pods(objects):
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        for term in terms:
            expressions = [e for e in term["matchExpressions"] if e["key"] == "topology.kubernetes.io/region"]
            assert expressions == [
                {"key": "topology.kubernetes.io/region", "operator": "In", "values": values}
            ], (name, term)


def makes_no_secret(objects):
    assert not [name for kind, name in objects if kind == "Secret"]
    for name in ("password", "BEGIN", "token ="):
        for (kind, _), document in objects.items():
            if kind == "ConfigMap" and "sandyq.toml" in document["data"]:
                text = document["data"]["sandyq.toml"].replace("password_file", "").replace("/password", "")
                assert name not in text.replace('token = "vault"', ""), name


def closed_network(objects, values):
    policies = {name: document["spec"] for (kind, name), document in objects.items() if kind == "NetworkPolicy"}
    deny = policies["sandyq-deny"]
    assert deny["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in deny and "egress" not in deny
    for name, labels, _ in pods(objects):
        assert all(labels.get(key) == value for key, value in deny["podSelector"]["matchLabels"].items()), name
    declared = values["networkPolicy"]
    opened = policies["sandyq"]
    calls, health = opened["ingress"]
    assert calls == {"from": declared["callers"], "ports": [{"port": 7443, "protocol": "TCP"}]}
    assert health["ports"] == [{"port": 9464, "protocol": "TCP"}]
    assert health["from"][1:] == declared["monitoring"]
    out = {tuple(port["port"] for port in rule["ports"]): rule["to"] for rule in opened["egress"]}
    collector = {(4318,)} if "collector" in declared else set()
    assert set(out) == {(53, 53), (5432,), (1792,)} | collector, out
    assert out.get((4318,)) == declared.get("collector")
    assert out[(5432,)] == declared["database"] and out[(1792,)] == declared["kms"]
    for rule in opened["egress"] + opened["ingress"]:
        peers = rule.get("to", rule.get("from"))
        assert peers and all(peers), "an empty peer or list would be everybody"


def probes(objects):
    container = objects["Deployment", "sandyq"]["spec"]["template"]["spec"]["containers"][0]
    wanted = {"startupProbe": "sandyq.live", "livenessProbe": "sandyq.live", "readinessProbe": "sandyq.ready"}
    for probe, service in wanted.items():
        assert container[probe]["grpc"] == {"port": 9464, "service": service}, probe
    arguments = container["args"]
    assert arguments[arguments.index("--health-listen") + 1] == "$(POD_IP):9464"
    return arguments


def config_of(objects):
    return objects["ConfigMap", "sandyq"]["data"]["sandyq.toml"]


def is_read(config, expected):
    """The binary of this tree reads the configuration, and stops only where this machine is no pod."""
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "sandyq.toml"
        file.write_text(config)
        answered = run(SANDYQ, "migrate", "--config", file)
        assert expected in answered.stderr, f"{answered.stderr}\n{config}"


def production():
    objects = render(PRODUCTION)
    restricted(objects)
    in_region(objects, ["kz-almaty", "kz-astana"])
    makes_no_secret(objects)
    closed_network(objects, PRODUCTION)
    arguments = probes(objects)
    assert arguments[arguments.index("--replica") + 1] == "$(POD_NAME)"
    is_read(config_of(objects), "cannot read /etc/sandyq/database/password")
    deployment = objects["Deployment", "sandyq"]["spec"]
    assert deployment["replicas"] == 3 and deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    spec = deployment["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 10 + 20 + 15
    assert spec["automountServiceAccountToken"] is False
    keys = {constraint["topologyKey"] for constraint in spec["topologySpreadConstraints"]}
    assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert objects["PodDisruptionBudget", "sandyq"]["spec"]["minAvailable"] == 1
    job = objects["Job", "sandyq-migrate-1"]["spec"]["template"]["spec"]
    assert job["containers"][0]["args"][:2] == ["--json", "migrate"] and "initContainers" not in job
    assert spec["initContainers"][0]["args"][:3] == ["--json", "migrate", "--wait"]
    monitor = objects["ServiceMonitor", "sandyq"]["spec"]
    service = objects["Service", "sandyq-health"]
    assert monitor["endpoints"] == [{"port": "health", "path": "/metrics", "interval": "30s"}]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    rules = objects["PrometheusRule", "sandyq"]["spec"]["groups"]
    assert rules == yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    dashboard = json.loads(objects["ConfigMap", "sandyq-dashboard"]["data"]["sandyq.json"])
    assert dashboard == json.loads((CHART / "files/dashboard.json").read_text())


def variants():
    on_sqlite = changed(changed(PRODUCTION, "database", {"kind": "sqlite"}), "replicas", 1)
    objects = render(on_sqlite)
    assert objects["Deployment", "sandyq"]["spec"]["strategy"] == {"type": "Recreate"}
    assert objects["Deployment", "sandyq"]["spec"]["replicas"] == 1
    claim = objects["PersistentVolumeClaim", "sandyq"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not [kind for kind, _ in objects if kind in {"Job", "PodDisruptionBudget"}]
    assert "--replica" not in probes(objects)
    is_read(config_of(objects), "does not exist")

    development = render(DEVELOPMENT)
    restricted(development)
    assert not [name for name, _, spec in pods(development) if "affinity" in spec]
    is_read(config_of(development), "does not exist")

    transit = {
        "kind": "transit",
        "transit": {"address": "https://bao.example.kz:8200", "existingSecret": "bao", "kubernetesRole": "sandyq"},
    }
    objects = render(changed(PRODUCTION, "kms", transit))
    for name, _, spec in pods(objects):
        assert spec["automountServiceAccountToken"] is (name != "sandyq-test"), name
    is_read(config_of(objects), "cannot read /etc/sandyq/kms/ca.pem")
    del transit["transit"]["kubernetesRole"]
    assert "token_file" in config_of(render(changed(PRODUCTION, "kms", transit)))

    assert "[telemetry.traces]" not in config_of(render(PRODUCTION)), "off unless it is named"
    objects = render(TRACED)
    closed_network(objects, TRACED)
    restricted(objects)
    is_read(config_of(objects), "cannot read /etc/sandyq/database/password")

    certificate = {"certManager": {"enabled": True, "issuerRef": {"name": "kz"}, "dnsNames": ["vault.example.kz"]}}
    objects = render(changed(PRODUCTION, "tls", certificate))
    made = objects["Certificate", "sandyq"]["spec"]
    assert made["issuerRef"] == {"name": "kz", "kind": "Issuer", "group": "cert-manager.io"}
    volumes = objects["Deployment", "sandyq"]["spec"]["template"]["spec"]["volumes"]
    assert made["secretName"] in [v["secret"]["secretName"] for v in volumes if "secret" in v]
    assert made["privateKey"]["rotationPolicy"] == "Always"

    scaled = render(changed(PRODUCTION, "autoscaling.enabled", True))
    assert "replicas" not in scaled["Deployment", "sandyq"]["spec"]
    assert scaled["HorizontalPodAutoscaler", "sandyq"]["spec"]["scaleTargetRef"]["name"] == "sandyq"

    first = render(changed(PRODUCTION, "init.enabled", True))
    job = first["Job", "sandyq-migrate-1"]["spec"]["template"]["spec"]
    assert [c["args"][1] for c in job["initContainers"] + job["containers"]] == ["init", "migrate"]

    digest = "sha256:" + "0" * 64
    objects = render(changed(PRODUCTION, "image.digest", digest))
    images = {c["image"] for _, _, spec in pods(objects) for c in spec.get("initContainers", []) + spec["containers"]}
    assert images == {"registry.example.kz/sandyq@" + digest}

    objects = render(changed(PRODUCTION, "health.ipFamily", "IPv6"))
    arguments = objects["Deployment", "sandyq"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "[$(POD_IP)]:9464" in arguments and 'listen = "[::]:7443"' in config_of(objects)

    url = "https://docs.example.kz/alerts"
    rules = render(changed(PRODUCTION, "monitoring.rules.runbookUrl", url))["PrometheusRule", "sandyq"]
    for rule in rules["spec"]["groups"][0]["rules"]:
        assert rule["annotations"]["runbook_url"] == f"{url}#{rule['alert'].lower()}"
    assert 'hardware_keys = "required"' in config_of(render(PRODUCTION)), "staff has hardware keys unless it is declared"
    rooted = render(changed(PRODUCTION, "staff.attestationRoots.configMap", "vendors"))
    assert 'attestation_roots = "/etc/sandyq/attestation/roots.pem"' in config_of(rooted)
    mounts = rooted["Deployment", "sandyq"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert any(mount["mountPath"] == "/etc/sandyq/attestation" for mount in mounts)
    other = render(changed(PRODUCTION, "governance.proposalHours", 12))
    checksum = lambda o: o["Deployment", "sandyq"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    assert checksum(other) != checksum(render(PRODUCTION)), "a changed configuration must be another pod"


def refusals():
    refuses(changed(PRODUCTION, "region.values", []), "region.values is needed in production", "Kazakhstan")
    refuses(changed(PRODUCTION, "tls", {}), "tls.existingSecret is needed")
    refuses(changed(PRODUCTION, "kms.pkcs11.existingSecret", ""), "kms.pkcs11.existingSecret is needed")
    refuses(changed(PRODUCTION, "kms", {"kind": "transit"}), "kms.transit.existingSecret is needed")
    refuses(changed(PRODUCTION, "kms", {"kind": "local", "local": {"existingSecret": "root"}}), "is for one process")
    refuses(changed(TRACED, "networkPolicy.collector", []), "networkPolicy.collector is needed")
    refuses(changed(TRACED, "telemetry.traces.existingSecret", ""), "telemetry.traces.existingSecret is needed")
    refuses(changed(TRACED, "telemetry.traces.endpoint", "http://10.0.0.1:4318"), "endpoint")
    refuses(changed(TRACED, "telemetry.traces.ratio", 2), "ratio")
    refuses(changed(PRODUCTION, "residency.sites", []), "residency.sites is needed in production")
    refuses(changed(PRODUCTION, "mirror", {}), "mirror.existingClaim is needed in production")
    refuses(changed(PRODUCTION, "networkPolicy.enabled", False), "networkPolicy.enabled must be true")
    refuses(changed(PRODUCTION, "networkPolicy.database", []), "networkPolicy.database is needed")
    refuses(changed(PRODUCTION, "database", {"kind": "sqlite"}), "an SQLite database has one process")
    refuses(changed(PRODUCTION, "replicas", 1), "replicas must be at least 2")
    refuses(changed(PRODUCTION, "clientAuthorities", []), "nobody could call")
    refuses(changed(PRODUCTION, "installation.name", ""), "installation.name is needed")
    refuses(changed(PRODUCTION, "regions", {}), "regions", "not allowed")
    refuses(changed(PRODUCTION, "replicas", "three"), "replicas")
    url = "postgres://sandyq:secret@db.example.kz/sandyq"
    refuses(changed(PRODUCTION, "database.postgres.url", url), "url")
    refuses(changed(PRODUCTION, "networkPolicy.callers", [{}]), "networkPolicy.callers")
    assert helm("template", changed(DEVELOPMENT, "region", {}), "sandyq").returncode == 0
    long_name = helm("template", PRODUCTION, "a-release-with-a-long-name")
    assert "name is too long" in long_name.stderr, long_name.stderr


def monitoring():
    page = (ROOT / "docs/telemetry.md").read_text()
    table = dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \|", page, re.M))
    known = set(table) | {n + s for n, k in table.items() if k == "histogram" for s in ("_bucket", "_sum", "_count")}
    rules = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(alerts) >= 20 and len(queries) >= 20
    used = set()
    for query in [rule["expr"] for rule in alerts] + queries:
        named = set(re.findall(r"\b(?:sandyq|process|rpc)_[a-z_]+", re.sub(r'"[^"]*"|\b(?:by|without) *\([^)]*\)', "", query)))
        named -= {"rpc_response_status_code", "rpc_method"}
        assert named and named <= known, (query, named - known)
        used |= named
    runbook = (ROOT / "docs/runbooks/alerts.md").read_text()
    sections = re.findall(r"^## (\w+)$", runbook, re.M)
    assert sections == [rule["alert"] for rule in alerts], "a section for each alert, in their order"
    for rule in alerts:
        assert rule["annotations"]["runbook"] == f"docs/runbooks/alerts.md#{rule['alert'].lower()}", rule
        assert rule["labels"]["severity"] in {"critical", "warning"}
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        (place / "alerts.yaml").write_text((CHART / "files/alerts.yaml").read_text())
        (place / "alerts_test.yaml").write_text((ROOT / "tests/helm/alerts_test.yaml").read_text())
        of_dashboard = [
            {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
            for number, query in enumerate(queries)
        ]
        (place / "dashboard.yaml").write_text(yaml.safe_dump({"groups": [{"name": "d", "rules": of_dashboard}]}))
        for command in (("check", "rules", "alerts.yaml", "dashboard.yaml"), ("test", "rules", "alerts_test.yaml")):
            checked = subprocess.run([PROMTOOL, *command], cwd=place, capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stdout + checked.stderr


def documented_commands():
    """What docs/install.md has people type names things that are there."""
    page = (ROOT / "docs/install.md").read_text()
    assert "job/sandyq-migrate-1 --container init" in page
    first = render(changed(PRODUCTION, "init.enabled", True))
    job = first["Job", "sandyq-migrate-1"]["spec"]["template"]["spec"]
    assert "init" in [container["name"] for container in job["initContainers"]]
    for line in re.findall(r"^helm (?:install|upgrade) .*$", page, re.M):
        assert "helm/sandyq" in line, line


def linted():
    for values in (PRODUCTION, DEVELOPMENT):
        checked = helm("lint", values, "--strict")
        assert checked.returncode == 0, checked.stdout + checked.stderr


for check in (linted, production, variants, refusals, monitoring, documented_commands):
    check()
    print(f"helm: {check.__name__}")

"""The published set-up through Google's own Python clients, over REST.

Usage: published_setup.py API_URL GATEWAY_HOST_PORT CERTIFICATE_PEM KEY_PEM

Exits 0 only if every step did what it should.
"""

import json
import sys
import time
import urllib.error
import urllib.request

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1, dns, run_v2
from google.cloud import logging as cloud_logging
from google.iam.v1 import policy_pb2

PROJECT = "py-demo"
REGION = "us-central1"
VIP = "10.0.0.100"
LINK = "https://www.googleapis.com/compute/v1/projects/%s" % PROJECT

api, gateway, certificate, key = sys.argv[1:5]
certificate, key = open(certificate).read(), open(key).read()
client_arguments = {
    "credentials": AnonymousCredentials(),
    "client_options": ClientOptions(api_endpoint=api),
}


def compute(kind):
    return kind(transport="rest", **client_arguments)


def regional(name):
    return "%s/regions/%s/%s" % (LINK, REGION, name)


def step(text):
    print(text, flush=True)


def expect(error, call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except error as found:
        step("  refused as it should be: %s" % found.message)
        return found
    raise AssertionError("%s was expected" % error.__name__)


def get(path, host=None, token=None, scheme_host="http://" + VIP):
    """A request as a client inside my-vpc."""
    proxy = urllib.request.ProxyHandler({"http": "http://%s%%2Fmy-vpc:x@%s" % (PROJECT, gateway)})
    request = urllib.request.Request(scheme_host + path)
    if host:
        request.add_header("Host", host)
    if token:
        request.add_header("Authorization", "Bearer " + token)
    try:
        with urllib.request.build_opener(proxy).open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


step("network and subnets")
networks = compute(compute_v1.NetworksClient)
networks.insert(
    project=PROJECT, network_resource={"name": "my-vpc", "auto_create_subnetworks": False}
).result()
subnets = compute(compute_v1.SubnetworksClient)
for subnet in (
    {"name": "my-subnet", "ip_cidr_range": "10.0.0.0/24"},
    {
        "name": "proxy-only-subnet",
        "ip_cidr_range": "10.129.0.0/23",
        "purpose": "REGIONAL_MANAGED_PROXY",
        "role": "ACTIVE",
    },
):
    subnet["network"] = "%s/global/networks/my-vpc" % LINK
    subnets.insert(project=PROJECT, region=REGION, subnetwork_resource=subnet).result()
overlap = {"name": "clash", "ip_cidr_range": "10.0.0.128/25", "network": "%s/global/networks/my-vpc" % LINK}
refused = expect(BadRequest, subnets.insert, project=PROJECT, region=REGION, subnetwork_resource=overlap)
assert "conflicts with existing subnetwork 'my-subnet'" in refused.message, refused.message

step("services")
services = run_v2.ServicesClient(transport="rest", **client_arguments)
parent = "projects/%s/locations/%s" % (PROJECT, REGION)
for name in ("my-internal-service", "my-api"):
    created = services.create_service(
        parent=parent,
        service_id=name,
        service=run_v2.Service(
            ingress=run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER,
            template=run_v2.RevisionTemplate(
                containers=[run_v2.Container(image="gcr.io/cloudrun/hello")]
            ),
        ),
    ).result(timeout=60)
    assert created.uri.startswith("https://" + name), created.uri
    assert created.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
expect(NotFound, services.get_service, name=parent + "/services/nope")

step("NEGs and backend services")
negs = compute(compute_v1.RegionNetworkEndpointGroupsClient)
backends = compute(compute_v1.RegionBackendServicesClient)
for service, neg, backend in (
    ("my-internal-service", "my-serverless-neg", "my-internal-backend"),
    ("my-api", "my-api-neg", "my-api-backend"),
):
    negs.insert(
        project=PROJECT,
        region=REGION,
        network_endpoint_group_resource={
            "name": neg,
            "network_endpoint_type": "SERVERLESS",
            "cloud_run": {"service": service},
        },
    ).result()
    backends.insert(
        project=PROJECT,
        region=REGION,
        backend_service_resource={
            "name": backend,
            "load_balancing_scheme": "INTERNAL_MANAGED",
            "protocol": "HTTP",
            "backends": [{"group": regional("networkEndpointGroups/" + neg)}],
            "log_config": {"enable": True, "sample_rate": 1.0},
        },
    ).result()

step("URL map, proxies, forwarding rules")
maps = compute(compute_v1.RegionUrlMapsClient)
url_map = {
    "name": "my-internal-url-map",
    "default_service": regional("backendServices/my-internal-backend"),
    "host_rules": [{"hosts": ["*"], "path_matcher": "my-matcher"}],
    "path_matchers": [
        {
            "name": "my-matcher",
            "default_service": regional("backendServices/my-internal-backend"),
            "path_rules": [
                {"paths": ["/api/*"], "service": regional("backendServices/my-api-backend")}
            ],
        }
    ],
}
dangling = {"name": "dangling", "default_service": regional("backendServices/nope")}
expect(NotFound, maps.insert, project=PROJECT, region=REGION, url_map_resource=dangling)
maps.insert(project=PROJECT, region=REGION, url_map_resource=url_map).result()
expect(Conflict, maps.insert, project=PROJECT, region=REGION, url_map_resource=url_map)
compute(compute_v1.RegionTargetHttpProxiesClient).insert(
    project=PROJECT,
    region=REGION,
    target_http_proxy_resource={
        "name": "my-internal-proxy",
        "url_map": regional("urlMaps/my-internal-url-map"),
    },
).result()
compute(compute_v1.RegionSslCertificatesClient).insert(
    project=PROJECT,
    region=REGION,
    ssl_certificate_resource={"name": "my-internal-cert", "certificate": certificate, "private_key": key},
).result()
compute(compute_v1.RegionTargetHttpsProxiesClient).insert(
    project=PROJECT,
    region=REGION,
    target_https_proxy_resource={
        "name": "my-internal-https-proxy",
        "url_map": regional("urlMaps/my-internal-url-map"),
        "ssl_certificates": [regional("sslCertificates/my-internal-cert")],
    },
).result()
rules = compute(compute_v1.ForwardingRulesClient)
for name, port, target in (
    ("my-internal-lb-rule", "80", "targetHttpProxies/my-internal-proxy"),
    ("my-https-rule", "443", "targetHttpsProxies/my-internal-https-proxy"),
):
    rules.insert(
        project=PROJECT,
        region=REGION,
        forwarding_rule_resource={
            "name": name,
            "load_balancing_scheme": "INTERNAL_MANAGED",
            "network": "%s/global/networks/my-vpc" % LINK,
            "subnetwork": regional("subnetworks/my-subnet"),
            "I_p_address": VIP,
            "port_range": port,
            "target": regional(target),
        },
    ).result()
listed = [rule.name for rule in rules.list(project=PROJECT, region=REGION)]
assert listed == ["my-https-rule", "my-internal-lb-rule"], listed
scopes = {scope: found for scope, found in rules.aggregated_list(project=PROJECT) if found.forwarding_rules}
assert list(scopes) == ["regions/" + REGION], scopes

step("traffic, as soon as the last operation was done")
status, _ = get("/")
assert status == 403, status
policy = services.get_iam_policy(request={"resource": parent + "/services/my-internal-service"})
policy.bindings.append(policy_pb2.Binding(role="roles/run.invoker", members=["allUsers"]))
services.set_iam_policy(
    request={"resource": parent + "/services/my-internal-service", "policy": policy}
)
status, body = get("/hello?x=1")
assert status == 200 and "my-internal-service" in body, (status, body)
status, _ = get("/api/users")
assert status == 403, status

step("DNS")
zone = dns.Client(
    project=PROJECT, credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=api)
).zone("internal-zone", "internal.example.com.", "made by a test")
connection = zone._client._connection
connection.api_request(
    method="POST",
    path="/projects/%s/managedZones" % PROJECT,
    data={
        "name": "internal-zone",
        "dnsName": "internal.example.com.",
        "description": "",
        "visibility": "private",
        "privateVisibilityConfig": {"networks": [{"networkUrl": "%s/global/networks/my-vpc" % LINK}]},
    },
)
change = zone.changes()
change.add_record_set(zone.resource_record_set("api.internal.example.com.", "A", 300, [VIP]))
change.create()
deadline = time.monotonic() + 30
while change.status != "done":
    assert time.monotonic() < deadline, "the change stays pending"
    change.reload()
records = {(r.name, r.record_type) for r in zone.list_resource_record_sets()}
assert ("api.internal.example.com.", "A") in records, records
status, body = get("/by-name", scheme_host="http://api.internal.example.com")
assert status == 200 and "/by-name" in body, (status, body)

step("logs")
logs = cloud_logging.Client(
    project=PROJECT,
    credentials=AnonymousCredentials(),
    _use_grpc=False,
    client_options=ClientOptions(api_endpoint=api),
)
deadline = time.monotonic() + 30
while True:
    entries = list(
        logs.list_entries(
            filter_='resource.type="internal_http_lb_rule" AND httpRequest.status=200',
            order_by=cloud_logging.DESCENDING,
        )
    )
    if len(entries) == 2:
        break
    assert time.monotonic() < deadline, "2 entries expected, not %d" % len(entries)
labels = entries[0].resource.labels
assert labels["forwarding_rule_name"] == "my-internal-lb-rule", labels
assert labels["backend_name"] == "my-serverless-neg", labels
assert entries[0].http_request["requestUrl"] == "http://api.internal.example.com/by-name", entries[0].http_request

step("in use, then down")
refused = expect(BadRequest, maps.delete, project=PROJECT, region=REGION, url_map="my-internal-url-map")
assert "is already being used by" in refused.message, refused.message
for name in listed:
    rules.delete(project=PROJECT, region=REGION, forwarding_rule=name).result()
status, _ = get("/")
assert status in (502, 504), status
expect(NotFound, rules.get, project=PROJECT, region=REGION, forwarding_rule="my-https-rule")
for name in ("my-internal-service", "my-api"):
    services.delete_service(name="%s/services/%s" % (parent, name)).result(timeout=60)
assert not list(services.list_services(parent=parent))
print(json.dumps({"passed": True}))

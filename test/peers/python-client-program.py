# Owns: the program of `python-client.test.ts`: what a script written with Python's kubernetes client does.
# Usage: python-client-program.py KUBECONFIG. Prints one JSON line for each thing seen; exits 0 at the end of its script.

import json
import sys
import threading

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

namespace = "shop"


def say(what, value):
    print(json.dumps([what, value]), flush=True)


def failure(what, call):
    try:
        call()
        say(what, "no failure")
    except ApiException as error:
        body = json.loads(error.body)
        say(what, [error.status, body["reason"], body["message"]])


config.load_kube_config(sys.argv[1])
core = client.CoreV1Api()
custom = client.CustomObjectsApi()


def service(name):
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1ServiceSpec(selector={"app": name}, ports=[client.V1ServicePort(name="http", port=80)]),
    )


made = core.create_namespaced_service(namespace, service("reviews"), field_manager="python")
say("created", [made.metadata.name, made.spec.ports[0].target_port, made.metadata.managed_fields[0].manager])
failure("again", lambda: core.create_namespaced_service(namespace, service("reviews")))
made.spec.selector = {"app": "v2"}
say("replaced", core.replace_namespaced_service("reviews", namespace, made).spec.selector["app"])
failure("stale", lambda: core.replace_namespaced_service("reviews", namespace, made))
patched = core.patch_namespaced_service("reviews", namespace, {"metadata": {"annotations": {"by": "python"}}})
say("patched", patched.metadata.annotations["by"])
failure("missing", lambda: core.read_namespaced_service("nope", namespace))

route = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "reviews"},
    "spec": {
        "parentRefs": [{"group": "", "kind": "Service", "name": "reviews", "port": 80}],
        "rules": [{"backendRefs": [{"name": "reviews", "port": 80}]}],
    },
}
kind = ("gateway.networking.k8s.io", "v1", namespace, "httproutes")
say("custom", custom.create_namespaced_custom_object(*kind, route)["metadata"]["generation"])
bad = {**route, "metadata": {"name": "bad"}, "spec": {**route["spec"], "surprise": 1}}
failure("invalid", lambda: custom.create_namespaced_custom_object(*kind, bad))

# The dynamic client reads discovery, and applies on the server.
resources = dynamic.DynamicClient(client.ApiClient())
services = resources.resources.get(api_version="v1", kind="Service")
applied = resources.server_side_apply(
    services,
    body={"apiVersion": "v1", "kind": "Service", "metadata": {"name": "applied"}, "spec": {"ports": [{"port": 80, "name": "web"}]}},
    name="applied",
    namespace=namespace,
    field_manager="one",
)
say("applied", [applied.metadata.name, applied.metadata.managedFields[0].operation])
failure(
    "apply conflict",
    lambda: resources.server_side_apply(
        services,
        body={"apiVersion": "v1", "kind": "Service", "metadata": {"name": "applied"}, "spec": {"ports": [{"port": 80, "name": "other"}]}},
        name="applied",
        namespace=namespace,
        field_manager="two",
    ),
)

# Pages of one revision.
for at in range(5):
    core.create_namespaced_service("many", service(f"s{at}"))
page = core.list_namespaced_service("many", limit=2)
names = [item.metadata.name for item in page.items]
core.delete_namespaced_service("s4", "many")
while page.metadata._continue:
    page = core.list_namespaced_service("many", limit=2, _continue=page.metadata._continue)
    names += [item.metadata.name for item in page.items]
say("paged", names)
say("selected", [i.metadata.name for i in core.list_namespaced_service("many", label_selector="app in (s1,s2)").items])
failure("selected by what cannot be", lambda: core.list_namespaced_service("many", field_selector="spec.replicas=1"))

# A watch that hears what another thread does.
seen = []
revision = core.list_namespaced_service(namespace).metadata.resource_version


def write():
    core.create_namespaced_service(namespace, service("cart"))
    core.delete_namespaced_service("cart", namespace)


threading.Timer(0.2, write).start()
for event in watch.Watch().stream(core.list_namespaced_service, namespace, resource_version=revision, timeout_seconds=10):
    seen.append(f"{event['type']} {event['object'].metadata.name}")
    if len(seen) == 2:
        break
say("watched", seen)
try:
    for event in watch.Watch().stream(core.list_namespaced_service, namespace, resource_version="99999999", timeout_seconds=5):
        say("from the future", event["type"])
except ApiException as error:
    say("from the future", [error.status, error.reason.split(":")[0]])

utils.create_from_dict(client.ApiClient(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made"}})
say("namespaces", sorted(item.metadata.name for item in core.list_namespace().items))
who = client.AuthenticationV1Api().create_self_subject_review(client.V1SelfSubjectReview())
say("self", who.status.user_info.username)
may = client.AuthorizationV1Api().create_self_subject_access_review(
    client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(verb="delete", resource="services", namespace=namespace)
        )
    )
)
say("may", may.status.allowed)
core.delete_collection_namespaced_service("many", label_selector="app!=s0")
say("left", [item.metadata.name for item in core.list_namespaced_service("many").items])

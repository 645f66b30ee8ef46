// Owns: the program of `client-node.test.ts`: what an operator written with @kubernetes/client-node does, as such programs do it.
// Usage: client-node-program.mjs KUBECONFIG. Prints one JSON line for each thing seen; exits 0 at the end of its script.
// Plain JavaScript, because it is run by Node as well as by Bun.

import {
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  KubernetesObjectApi,
  makeInformer,
  PatchStrategy,
  setHeaderOptions,
  Watch,
} from "@kubernetes/client-node";

const say = (what, value) => console.log(JSON.stringify([what, value]));
const failure = async (what, promise) => {
  try {
    await promise;
    say(what, "no failure");
  } catch (error) {
    const body = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
    say(what, { code: error.code, reason: body?.reason, message: body?.message });
  }
};
const until = async (what, holds) => {
  const end = Date.now() + 8000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

const config = new KubeConfig();
config.loadFromFile(process.argv[2]);
const core = config.makeApiClient(CoreV1Api);
const custom = config.makeApiClient(CustomObjectsApi);
const objects = KubernetesObjectApi.makeApiClient(config);
const namespace = "shop";
const service = (name, extra = {}) => ({
  metadata: { name, labels: { app: name } },
  spec: { selector: { app: name }, ports: [{ name: "http", port: 80 }] },
  ...extra,
});

// Create, read, replace, patch, delete through the typed client.
const made = await core.createNamespacedService({ namespace, body: service("reviews") });
say("created", [made.metadata.name, made.metadata.creationTimestamp instanceof Date, made.spec.ports[0].targetPort]);
await failure("again", core.createNamespacedService({ namespace, body: service("reviews") }));
made.spec.selector = { app: "v2" };
const replaced = await core.replaceNamespacedService({ namespace, name: "reviews", body: made });
say("replaced", [replaced.spec.selector.app, replaced.metadata.generation]);
await failure("stale", core.replaceNamespacedService({ namespace, name: "reviews", body: made }));
const patched = await core.patchNamespacedService(
  { namespace, name: "reviews", body: { metadata: { annotations: { by: "client-node" } } } },
  setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
);
say("patched", patched.metadata.annotations.by);
await failure("missing", core.readNamespacedService({ namespace, name: "nope" }));

// A custom kind, as operators see ours.
const route = {
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: "reviews", namespace },
  spec: {
    parentRefs: [{ group: "", kind: "Service", name: "reviews", port: 80 }],
    rules: [{ backendRefs: [{ name: "reviews", port: 80 }] }],
  },
};
const type = { group: "gateway.networking.k8s.io", version: "v1", namespace, plural: "httproutes" };
say("custom", (await custom.createNamespacedCustomObject({ ...type, body: route })).metadata.generation);
await failure(
  "invalid",
  custom.createNamespacedCustomObject({ ...type, body: { ...route, metadata: { name: "bad" }, spec: { ...route.spec, surprise: 1 } } }),
);
say("read by kind", (await objects.read(route)).metadata.name);
await custom.deleteNamespacedCustomObject({ ...type, name: "reviews" });

// A watch from a list's revision.
const list = await core.listNamespacedService({ namespace });
const events = [];
const watch = new Watch(config);
let done = "open";
const request = await watch.watch(
  `/api/v1/namespaces/${namespace}/services`,
  { resourceVersion: list.metadata.resourceVersion, allowWatchBookmarks: true },
  (phase, object) => events.push(`${phase} ${object.metadata.name}`),
  (error) => {
    done = error === null || error === undefined || error.name === "AbortError" ? "closed" : String(error);
  },
);
await core.createNamespacedService({ namespace, body: service("cart") });
await core.deleteNamespacedService({ namespace, name: "cart" });
await until("two events", () => events.length === 2);
say("watched", events);
request.abort();
await until("the end of the watch", () => done !== "open");
say("watch ended", done);

// An informer: list, watch, a cache, and a new start where the watch was cut.
const informer = makeInformer(config, `/api/v1/namespaces/${namespace}/services`, () => core.listNamespacedService({ namespace }));
const heard = [];
for (const verb of ["add", "update", "delete", "error"])
  informer.on(verb, (object) => heard.push(`${verb} ${object.metadata?.name ?? object}`));
await informer.start();
await core.createNamespacedService({ namespace, body: service("ratings") });
await until("the new service", () => informer.get("ratings", namespace) !== undefined);
await core.patchNamespacedService(
  { namespace, name: "ratings", body: { metadata: { labels: { tier: "web" } } } },
  setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
);
await until("the changed service", () => informer.get("ratings", namespace)?.metadata.labels.tier === "web");
await core.deleteNamespacedService({ namespace, name: "ratings" });
await until("the deletion", () => heard.includes("delete ratings"));
say("informed", heard);
say(
  "cache",
  informer.list(namespace).map((each) => each.metadata.name),
);
await informer.stop();
process.exit(0);

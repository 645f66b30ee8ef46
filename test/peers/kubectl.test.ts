// Judge: kubectl. What it prints and how it exits counts, for every kubectl that is found.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { liveGroup, liveVersion } from "../../src/api/live.ts";
import type { KubeObject } from "../../src/api/meta.ts";
import { needsPeers } from "../support/peers.ts";
import { findKubectls, kubeconfigText, type PeerServer, type Ran, run, startPeerServer } from "./kubectl-setup.ts";

const service = (ports: string, selector = "reviews") => `
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop, labels: {app: reviews}}
spec:
  selector: {app: ${selector}}
  ports: ${ports}
`;
const onePort = "[{name: http, port: 80}]";
const twoPorts = "[{name: http, port: 80}, {name: tcp-admin, port: 81, targetPort: 8081}]";

const route = (backend: string, name = "reviews") => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 80}]
  rules:
  - ${backend}: [{name: reviews-v1, port: 80, weight: 90}, {name: reviews-v2, port: 80, weight: 10}]
`;

const policy = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reviews, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  action: ALLOW
  rules:
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/front"]}}]
    to: [{operation: {methods: [GET]}}]
`;

const binaries = needsPeers("kubectl.test.ts", "kubectl") ? findKubectls() : [];

describe.each(binaries)("%s", (binary) => {
  let server: PeerServer;
  let minor = 0;
  const kubectl = (args: string, input = ""): Promise<Ran> =>
    run(server.folder, [binary, "--kubeconfig", server.kubeconfig, ...args.split(" ")], input);

  async function ok(args: string, input = ""): Promise<string> {
    const { code, out, err } = await kubectl(args, input);
    expect({ args, code, err: code === 0 ? "" : err }).toEqual({ args, code: 0, err: "" });
    return out;
  }

  async function refused(args: string, input = ""): Promise<string> {
    const { code, out, err } = await kubectl(args, input);
    expect({ args, failed: code !== 0, out: code === 0 ? out : "" }).toEqual({ args, failed: true, out: "" });
    return err;
  }

  beforeAll(async () => {
    server = await startPeerServer((candidate) =>
      candidate.metadata.name === "twin"
        ? [{ path: "spec.rules[0]", message: "matches the same requests as HTTPRoute shop/reviews; remove one" }]
        : [],
    );
    const version = JSON.parse(await ok("version --client -o json")) as { clientVersion: { minor: string } };
    minor = Number.parseInt(version.clientVersion.minor, 10);
  });
  afterAll(() => server.stop());

  test("knows the server and its kinds", async () => {
    expect(await ok("version")).toContain("+weft.");
    const resources = await ok("api-resources");
    for (const line of [
      /^namespaces +ns +v1 +false +Namespace$/m,
      /^services +svc +v1 +true +Service$/m,
      /^httproutes +gateway\.networking\.k8s\.io\/v1 +true +HTTPRoute$/m,
    ]) {
      expect(resources).toMatch(line);
    }
    expect(await ok("get --raw /readyz")).toBe("ok");
  });

  test("apply creates, changes, and leaves alone what is the same", async () => {
    expect(await ok("apply -f -", service(onePort))).toBe("service/reviews created\n");
    expect(await ok("apply -f -", service(onePort))).toBe("service/reviews unchanged\n");
    expect(await ok("apply -f -", service(twoPorts))).toBe("service/reviews configured\n");
    expect(await ok("get svc reviews -o jsonpath={.spec.ports[*].port}")).toBe("80 81");
    expect(await ok("apply -f -", service(onePort))).toBe("service/reviews configured\n");
    expect(await ok("get svc reviews -o jsonpath={.spec.ports[*].port}")).toBe("80");
    // The namespace came into being with it.
    expect(await ok("get ns shop -o name")).toBe("namespace/shop\n");
    expect(await ok("apply -f -", `${route("backendRefs")}---${policy}`)).toBe(
      "httproute.gateway.networking.k8s.io/reviews created\nauthorizationpolicy.security.istio.io/reviews created\n",
    );
    expect(await ok("apply -f -", policy)).toBe("authorizationpolicy.security.istio.io/reviews unchanged\n");
    expect(await ok("apply -f -", policy.replace("[GET]", "[GET, POST]"))).toBe(
      "authorizationpolicy.security.istio.io/reviews configured\n",
    );
  });

  test("apply leaves what somebody else wrote, and takes away what it wrote itself", async () => {
    await ok('patch svc reviews --type=merge -p {"metadata":{"annotations":{"by":"else"}}}');
    await ok("apply -f -", service(onePort).replace("labels: {app: reviews}", "labels: {tier: web}"));
    expect(await ok("get svc reviews -o jsonpath={.metadata.labels}|{.metadata.annotations.by}")).toBe('{"tier":"web"}|else');
    await ok("apply -f -", service(onePort));
  });

  test("get prints tables, wide tables, names, YAML and JSON", async () => {
    expect(await ok("get svc,httproute")).toMatch(
      /^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\nservice\/reviews +ClusterIP +<none> +<none> +80\/TCP +\d+m?s\n\nNAME +HOSTNAMES +AGE\nhttproute\.gateway\.networking\.k8s\.io\/reviews /,
    );
    expect(await ok("get svc -A")).toMatch(/^NAMESPACE +NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\nshop +reviews /);
    expect(await ok("get svc --show-labels --no-headers")).toMatch(/^reviews .* app=reviews\n$/);
    expect(await ok("get svc reviews -o wide")).toMatch(/ AGE +SELECTOR\nreviews .* app=reviews\n$/);
    expect(await ok("get svc -l app=reviews -o name")).toBe("service/reviews\n");
    expect(await ok("get svc -l app=other -o name")).toBe("");
    expect(await ok("get svc reviews -o yaml")).toMatch(/^apiVersion: v1\nkind: Service\nmetadata:\n/);
    const list = JSON.parse(await ok("get svc -o json")) as { kind: string; items: KubeObject[] };
    expect(list.kind).toBe("List");
    expect(list.items[0]).toMatchObject({ apiVersion: "v1", kind: "Service", metadata: { name: "reviews", namespace: "shop" } });
    expect(await ok("get httproutes.v1beta1.gateway.networking.k8s.io reviews -o jsonpath={.apiVersion}")).toBe(
      "gateway.networking.k8s.io/v1beta1",
    );
    expect(await ok("get all")).toContain("reviews");
    expect((await kubectl("get svc -n nowhere")).err).toBe("No resources found in nowhere namespace.\n");
  });

  test("a long list comes in chunks and whole", async () => {
    const many = Array.from({ length: 7 }, (_, at) =>
      service(onePort).replace("name: reviews,", `name: many-${at},`).replace("namespace: shop", "namespace: many"),
    );
    await ok("apply -f -", many.join("---"));
    expect((await ok("get svc -n many --chunk-size=3 -o name")).trim().split("\n")).toHaveLength(7);
    expect(await ok("delete svc -n many --all")).toContain("many-6");
    expect(await ok("get svc -n many -o name")).toBe("");
    expect(await ok("delete ns many")).toContain('namespace "many" deleted');
  });

  test("describe shows fields and status", async () => {
    expect(await ok("describe svc reviews")).toMatch(/Selector: +app=reviews[\s\S]*Port: +http +80\/TCP/);
    expect(await ok("describe httproute reviews")).toMatch(/Kind: +HTTPRoute[\s\S]*Weight: +90/);
    if (minor >= 27) expect(await ok("explain httproute.spec.rules")).toContain("backendRefs");
  });

  test("label, annotate, patch, replace, edit", async () => {
    expect(await ok("label svc reviews team=red")).toContain("service/reviews labeled");
    expect(await ok("label svc reviews team-")).toContain("service/reviews");
    expect(await ok("annotate httproute reviews note=hello")).toContain("annotated");
    expect(await ok('patch svc reviews -p {"spec":{"ports":[{"port":82,"name":"tcp-x"}]}}')).toBe("service/reviews patched\n");
    expect(await ok("get svc reviews -o jsonpath={.spec.ports[*].port}")).toBe("80 82");
    expect(await ok('patch svc reviews --type=json -p [{"op":"remove","path":"/spec/ports/1"}]')).toBe("service/reviews patched\n");
    expect(await ok("replace -f -", service(twoPorts))).toBe("service/reviews replaced\n");
    const editor = join(server.folder, "editor.sh");
    writeFileSync(editor, '#!/bin/sh\nsed -i "s/app: reviews/app: edited/" "$1"\n', { mode: 0o755 });
    const edited = Bun.spawn({
      cmd: [binary, "--kubeconfig", server.kubeconfig, "edit", "svc", "reviews"],
      env: { PATH: process.env.PATH ?? "", HOME: server.folder, KUBE_EDITOR: editor },
      stdout: "pipe",
      stderr: "pipe",
    });
    expect(await new Response(edited.stdout).text()).toBe("service/reviews edited\n");
    expect(await ok("get svc reviews -o jsonpath={.spec.selector.app}")).toBe("edited");
    await ok("replace -f -", service(onePort));
    await ok("apply -f -", service(onePort));
    expect(await ok("get svc reviews -o jsonpath={.spec.selector.app}")).toBe("reviews");
  });

  test("create namespace, service, configmap and secret, which newer ones send as protobuf", async () => {
    expect(await ok("create ns made")).toBe("namespace/made created\n");
    expect(await refused("create ns made")).toBe('Error from server (AlreadyExists): namespaces "made" already exists\n');
    expect(await ok("create service clusterip web -n made --tcp=80:8080")).toBe("service/web created\n");
    expect(await ok("get svc web -n made -o jsonpath={.spec.ports[0].targetPort}{.spec.selector}")).toBe('8080{"app":"web"}');
    expect(await ok("create configmap cm -n made --from-literal=a=b")).toBe("configmap/cm created\n");
    expect(await ok("get cm cm -n made -o jsonpath={.data}")).toBe('{"a":"b"}');
    expect(await ok("create secret generic s -n made --from-literal=a=b")).toBe("secret/s created\n");
    expect(await ok("get secret s -n made -o jsonpath={.type}{.data.a}")).toBe("OpaqueYg==");
    expect(await ok("delete cm/cm secret/s -n made -o name")).toBe("configmap/cm\nsecret/s\n");
    expect(await refused("create service nodeport np -n made --tcp=80:8080")).toContain("spec.type");
    expect(await ok("delete svc web -n made")).toBe(
      minor >= 34 ? 'service "web" deleted from made namespace\n' : 'service "web" deleted\n',
    );
    expect(await ok("delete ns made")).toBe('namespace "made" deleted\n');
  });

  test("an invalid object is refused with path and message, and so is one that conflicts", async () => {
    const unknown = await refused("apply -f -", route("backendRfs", "typo"));
    expect(unknown).toMatch(/^The HTTPRoute "typo" is invalid: spec\.rules\[0\]\.backendRfs: unknown field "backendRfs"/);
    const several = await refused(
      "apply -f -",
      service("[{name: http, port: 99999}, {name: Bad_Name, port: 81}]").replace("reviews,", "wrong,"),
    );
    expect(several).toMatch(/^The Service "wrong" is invalid: \n\* spec\.ports\[0\]\.port: .*99999\n[\s\S]*\* spec\.ports\[1\]\.name: /);
    expect(await refused("apply -f -", route("backendRefs", "twin"))).toBe(
      'The HTTPRoute "twin" is invalid: spec.rules[0]: matches the same requests as HTTPRoute shop/reviews; remove one\n',
    );
    expect(await refused("apply -f -", route("backendRefs").replace("HTTPRoute", "UDPRoute"))).toMatch(/no matches for kind "UDPRoute"/);
    expect(await refused("get svc nope")).toBe('Error from server (NotFound): services "nope" not found\n');
    expect(await refused("delete ns shop")).toMatch(
      /^Error from server \(Conflict\): .*the namespace is not empty; delete what is in it first \(.*services: reviews/,
    );
  });

  test("apply on the server: own fields, another's conflict in its words, force, and what is left out goes", async () => {
    const mine = (target: number, more = "") =>
      `apiVersion: v1\nkind: Service\nmetadata: {name: ssa, namespace: shop${more}}\nspec: {ports: [{name: http, port: 80, targetPort: ${target}}]}\n`;
    expect(await ok("apply --server-side -f -", mine(8080, ", labels: {a: b}"))).toBe("service/ssa serverside-applied\n");
    const conflict = await refused("apply --server-side --field-manager=other -f -", mine(9090));
    expect(conflict).toContain('Apply failed with 1 conflict: conflict with "kubectl": .spec.ports[port=80,protocol="TCP"].targetPort');
    expect(conflict).toContain("Please review the fields above");
    expect(await ok("apply --server-side --field-manager=other --force-conflicts -f -", mine(9090))).toBe(
      "service/ssa serverside-applied\n",
    );
    expect(await ok("get svc ssa -o jsonpath={.spec.ports[0].targetPort}")).toBe("9090");
    expect(await ok("apply --server-side --dry-run=server --force-conflicts -f -", mine(8080))).toContain(
      "serverside-applied (server dry run)",
    );
    expect(await ok("apply --server-side --force-conflicts -f -", mine(8080))).toContain("serverside-applied");
    expect(await ok("get svc ssa -o jsonpath={.metadata.labels}{.spec.ports[0].targetPort}")).toBe("8080");
    const managed = await ok("get svc ssa -o yaml --show-managed-fields");
    expect(managed).toMatch(/manager: kubectl\n +operation: Apply/);
    expect(await ok("delete svc ssa")).toContain("deleted");
  });

  test("apply moves from the client to the server without a conflict with itself", async () => {
    await ok("apply -f -", service(onePort).replace("name: reviews,", "name: moved,"));
    expect(await ok("apply --server-side -f -", service(twoPorts).replace("name: reviews,", "name: moved,"))).toBe(
      "service/moved serverside-applied\n",
    );
    expect(await ok("get svc moved -o jsonpath={.spec.ports[*].port}")).toBe("80 81");
    expect(await ok("apply --server-side -f -", service(onePort).replace("name: reviews,", "name: moved,"))).toContain("applied");
    expect(await ok("get svc moved -o jsonpath={.spec.ports[*].port}")).toBe("80");
    await ok("delete svc moved");
  });

  test("unknown fields: refused, or left out with a warning", async () => {
    const typo = service(onePort).replace("selector:", "selectr: {a: b}\n  selector:").replace("name: reviews,", "name: typo,");
    if (minor < 27) return;
    expect(await refused("apply -f -", typo)).toContain('unknown field "selectr"');
    const warned = await kubectl("create --validate=warn -f -", typo);
    expect([warned.code, warned.err]).toEqual([0, expect.stringContaining('Warning: unknown field "spec.selectr"')]);
    await ok("delete svc typo");
  });

  test("explain tells fields in words, for every kind and version", async () => {
    if (minor < 27) return;
    expect(await ok("explain httproute.spec")).toMatch(/FIELDS:[\s\S]*rules\t<\[\]Object>[\s\S]*Rules are a list of HTTP matchers/);
    expect(await ok("explain service.spec.ports.port")).toMatch(
      /FIELD: port <integer>\n[\s\S]*The port that will be exposed by this service/,
    );
    expect(await ok("explain authorizationpolicies --api-version=security.istio.io/v1 --recursive")).toContain("principals");
    expect(await ok("explain proxies")).toContain("KIND:       Proxy");
    expect(await ok("explain httproute.metadata.ownerReferences")).toContain("blockOwnerDeletion");
  });

  test("what belongs to another goes with it, or is orphaned", async () => {
    await ok("apply -f -", service(onePort).replace("name: reviews,", "name: owner,"));
    const uid = await ok("get svc owner -o jsonpath={.metadata.uid}");
    const owned = (name: string) =>
      service(onePort).replace(
        "name: reviews,",
        `name: ${name}, ownerReferences: [{apiVersion: v1, kind: Service, name: owner, uid: ${uid}}],`,
      );
    await ok("apply -f -", owned("kept"));
    await ok(minor < 20 ? "delete svc owner --cascade=false" : "delete svc owner --cascade=orphan");
    const end = performance.now() + 5000;
    while ((await kubectl("get svc owner")).code === 0 && performance.now() < end) await Bun.sleep(20);
    expect(await ok("get svc kept -o jsonpath={.metadata.ownerReferences}")).toBe("");
    await ok("apply -f -", service(onePort).replace("name: reviews,", "name: owner,"));
    const second = await ok("get svc owner -o jsonpath={.metadata.uid}");
    await ok("apply -f -", owned("goes").replace(uid, second));
    await ok("delete svc owner --cascade=foreground");
    expect(await ok("wait --for=delete svc/goes --timeout=5s")).toBeString();
    expect(await ok("get svc -l app=reviews -o name")).not.toContain("goes");
    await ok("delete svc kept");
  });

  test("events stand under describe and in a table of their own", async () => {
    const uid = await ok("get svc reviews -o jsonpath={.metadata.uid}");
    const event = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: "reviews.1", namespace: "shop" },
      involvedObject: { apiVersion: "v1", kind: "Service", namespace: "shop", name: "reviews", uid },
      reason: "Tried",
      message: "by a test",
      type: "Warning",
      count: 3,
      firstTimestamp: new Date().toISOString(),
      lastTimestamp: new Date().toISOString(),
      source: { component: "test" },
    };
    await ok("create -f -", JSON.stringify(event));
    expect(await ok("get events")).toMatch(
      /^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n\d+s +Warning +Tried +service\/reviews +by a test\n$/,
    );
    expect(await ok("get events --field-selector involvedObject.name=nobody -o name")).toBe("");
    expect(await refused("get events --field-selector spec.x=1")).toContain("events can be selected by involvedObject.apiVersion");
    expect(await ok("describe svc reviews")).toMatch(/Events:\n[\s\S]*Warning +Tried[\s\S]*by a test/);
    if (minor >= 27) expect(await ok("events --for svc/reviews")).toContain("Tried");
    await ok("delete events --all");
  });

  test("a stale object is a conflict", async () => {
    const stale = await ok("get svc reviews -o json");
    await ok("label svc reviews fresh=yes");
    const err = await refused("replace -f -", stale);
    expect(err).toContain("Error from server (Conflict)");
    expect(err).toContain("the object has been modified; please apply your changes to the latest version and try again");
    await ok("label svc reviews fresh-");
  });

  test("dry runs and diffs store nothing", async () => {
    if (minor < 27) return;
    expect(await ok("apply --dry-run=server -f -", service(twoPorts))).toBe("service/reviews configured (server dry run)\n");
    const diff = await kubectl("diff -f -", service(twoPorts));
    expect(diff.code).toBe(1);
    expect(diff.out).toMatch(/^\+ +port: 81$/m);
    expect(await ok("get svc reviews -o jsonpath={.spec.ports[*].port}")).toBe("80");
  });

  test("get -w prints every change until it is stopped", async () => {
    const child = Bun.spawn({
      cmd: [binary, "--kubeconfig", server.kubeconfig, "get", "svc", "-w"],
      env: { PATH: process.env.PATH ?? "", HOME: server.folder },
      stdout: "pipe",
      stderr: "inherit",
    });
    const lines: string[] = [];
    const reading = (async () => {
      const decoder = new TextDecoder();
      let rest = "";
      for await (const chunk of child.stdout) {
        const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = parts.pop() ?? "";
        lines.push(...parts);
      }
    })();
    const seen = async (count: number) => {
      const end = performance.now() + 8000;
      while (lines.length < count && performance.now() < end) await Bun.sleep(5);
    };
    await seen(2);
    await ok("apply -f -", service(twoPorts));
    await seen(3);
    await ok("apply -f -", service(onePort).replace("name: reviews,", "name: ratings,"));
    await seen(4);
    await ok("delete svc ratings");
    await seen(5);
    child.kill();
    await reading;
    expect(lines.map((line) => line.replace(/ +\d+m?s$/, "").replaceAll(/ +/g, " "))).toEqual([
      "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE",
      "reviews ClusterIP <none> <none> 80/TCP",
      "reviews ClusterIP <none> <none> 80/TCP,81/TCP",
      "ratings ClusterIP <none> <none> 80/TCP",
      "ratings ClusterIP <none> <none> 80/TCP",
    ]);
  }, 30_000);

  test("live state is read, watched by list, and not written", async () => {
    const proxy: KubeObject = {
      apiVersion: `${liveGroup}/${liveVersion}`,
      kind: "Proxy",
      metadata: { name: "reviews-v1-abc", namespace: "shop" },
      status: {
        connected: true,
        synced: true,
        agent: "weft/0.1.0",
        identity: "spiffe://cluster.local/ns/shop/sa/reviews",
        lastRejection: null,
      },
    };
    server.live.objects.set("proxies.weft.dev", [proxy]);
    expect(await ok("get proxies")).toMatch(/reviews-v1-abc +true +true/);
    expect(await refused("delete proxy reviews-v1-abc")).toContain("proxies are live state: they can be read, not written");
    server.live.objects.delete("proxies.weft.dev");
  });

  test("callers: who am I, what may I, join tokens, wrong and missing credentials", async () => {
    expect(await ok("auth can-i create httproutes")).toBe("yes\n");
    expect(await ok("auth can-i --list")).toMatch(/^\*\.\* +\[\] +\[\] +\[\*\]$/m);
    const as = "--as=system:serviceaccount:shop:reviews";
    expect((await kubectl(`${as} auth can-i delete httproutes`)).out).toMatch(/^no/);
    expect(await refused(`${as} get svc`)).toContain("Forbidden");
    expect(await refused("--as=jane get svc")).toContain("jane may do nothing here");
    const workload = join(server.folder, "workload");
    writeFileSync(workload, kubeconfigText(server.url, server.caPem, "shop/reviews"));
    const denied = await run(server.folder, [
      binary,
      "--kubeconfig",
      workload,
      "--cache-dir",
      join(server.folder, "other"),
      "get",
      "--raw",
      "/api/v1/namespaces",
    ]);
    expect(denied.code).toBe(1);
    expect(denied.err).toContain("Error from server (Forbidden): namespaces is forbidden: system:serviceaccount:shop:reviews may only");
    writeFileSync(workload, kubeconfigText(server.url, server.caPem, "wrong"));
    const wrong = await run(server.folder, [binary, "--kubeconfig", workload, "get", "--raw", "/api/v1/namespaces"]);
    expect(wrong.err).toContain("You must be logged in to the server (no valid credentials; ask the admin for a token)");
    if (minor < 27) return;
    expect(await ok("auth whoami -o jsonpath={.status.userInfo.username}")).toBe("admin");
    expect((await ok("create token reviews --duration 30m")).trim()).toBe("token-for-shop-reviews-1800");
    expect(await refused("create token reviews --duration 1m")).toContain("must be a whole number from 600 to 86400, got 60");
  });

  test("delete takes objects away; a name that is gone is not found", async () => {
    const gone = await ok("delete -f -", `${service(onePort)}---${route("backendRefs")}---${policy}`);
    expect(gone).toContain('httproute.gateway.networking.k8s.io "reviews" deleted');
    expect(await refused("delete svc reviews")).toBe('Error from server (NotFound): services "reviews" not found\n');
    expect(await ok("delete svc reviews --ignore-not-found")).toBe("");
    expect(await ok("delete ns shop")).toBe('namespace "shop" deleted\n');
  });
});

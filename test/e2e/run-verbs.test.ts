// The other verbs against a real control plane: what they print, where, and with which status.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { weftBin } from "../../demo/processes.ts";
import { eventually } from "../support/mesh.ts";

let dir = "";
let up: Bun.Subprocess | undefined;

const env = (): Record<string, string> => ({ PATH: process.env.PATH ?? "", HOME: dir, WEFT_DATA: join(dir, "data") });

async function weft(
  args: readonly string[],
  stdin = "",
  more: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const child = Bun.spawn([weftBin, ...args], {
    stdin: new TextEncoder().encode(stdin),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...env(), ...more },
  });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return { code, out, err };
}

const line = (text: string) => weft(text.split(" "));

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "weft-verbs-"));
  up = Bun.spawn([weftBin, "up", "--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
    env: env(),
  });
  const ready = await eventually(
    10_000,
    async () => (await line("get namespaces -o name")).code,
    (code) => code === 0,
  );
  expect(ready).toBe(0);
}, 15_000);

afterAll(async () => {
  up?.kill("SIGTERM");
  await up?.exited;
  rmSync(dir, { recursive: true, force: true });
});

const service = (name: string, port = 80) => `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec:
  selector: {app: ${name}}
  ports:
  - {name: http, port: ${port}}
`;

const route = (weight: number) => `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs:
  - {group: "", kind: Service, name: reviews, port: 80}
  rules:
  - backendRefs:
    - {name: reviews-v1, port: 80, weight: ${weight}}
`;

describe("apply, get, describe, delete", () => {
  test("created, unchanged, configured; services before what refers to them", async () => {
    const text = `${route(1)}---\n${service("reviews")}`;
    expect(await weft(["apply", "-f", "-"], text)).toEqual({
      code: 0,
      out: "service/reviews created\nhttproute.gateway.networking.k8s.io/reviews created\n",
      err: "warning: spec.rules[0].backendRefs[0]: there is no Service shop/reviews-v1: requests that go there get 500 until there is\n",
    });
    expect((await weft(["apply", "-f", "-"], text)).out).toBe(
      "service/reviews unchanged\nhttproute.gateway.networking.k8s.io/reviews unchanged\n",
    );
    expect((await weft(["apply", "-f", "-"], route(5))).out).toBe("httproute.gateway.networking.k8s.io/reviews configured\n");
    const got = JSON.parse((await line("get httproute reviews -n shop -o json")).out) as {
      spec: { rules: { backendRefs: { weight: number }[] }[] };
    };
    expect(got.spec.rules[0]?.backendRefs[0]?.weight).toBe(5);
  });

  test("what get prints can be applied: nothing changes", async () => {
    const { out } = await line("get svc,httproute -n shop -o yaml");
    expect((await weft(["apply", "-f", "-"], out)).out).toBe(
      "service/reviews unchanged\nhttproute.gateway.networking.k8s.io/reviews unchanged\n",
    );
  });

  test("every fault with its place, the good objects applied, status 1", async () => {
    const file = join(dir, "bad.yaml");
    writeFileSync(
      file,
      `${route(-1).replace("name: reviews,", "name: bad,").replace("  rules:", "  rulez: 1\n  rules:")}---\n${service("fine")}---\na: [1\nb: 2\n---\nkind: Servic\napiVersion: v1\nmetadata: {name: x}\n`,
    );
    const { code, out, err } = await line(`apply -f ${file}`);
    expect(code).toBe(1);
    expect(out).toBe("service/fine created\n");
    expect(err).toContain(
      `${file}:1: HTTPRoute shop/bad (document 1) is refused:\n  ${file}:7: spec.rulez: unknown field "rulez"; did you mean "rules"?\n  ${file}:10: spec.rules[0].backendRefs[0].weight:`,
    );
    expect(err).toMatch(/bad\.yaml:\d+:\d+: not YAML: .*\(document 3\)/);
    expect(err).toContain("kind: the control plane has no Servic in v1; did you mean Service?");
    expect(err).toContain("3 faults, 1 of 4 objects applied");
  });

  test("tables, names, wide; no colour in a pipe, colour when it is asked for", async () => {
    expect((await line("get services -n shop -o name")).out).toBe("service/fine\nservice/reviews\n");
    const { out } = await line("get svc -A");
    expect(out).toMatch(
      /^NAMESPACE +NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\nshop +fine +ClusterIP +<none> +<none> +80\/TCP +\d+s\n/,
    );
    expect(out).not.toContain("\u001b");
    expect((await weft(["get", "svc", "-A"], "", { CLICOLOR_FORCE: "1" })).out).toContain("\u001b[1mNAME");
    expect((await weft(["get", "svc", "-A"], "", { CLICOLOR_FORCE: "1", NO_COLOR: "1" })).out).not.toContain("\u001b");
    expect((await line("get service/fine httproute/reviews -n shop")).out).toMatch(
      /^NAME[^\n]*\nservice\/fine [^\n]*\n\nNAME[^\n]*\nhttproute\.gateway\.networking\.k8s\.io\/reviews /,
    );
  });

  test("what is not there", async () => {
    expect(await line("get svc nope -n shop")).toEqual({ code: 1, out: "", err: 'error: services "nope" not found\n' });
    expect((await line("get svcs")).err).toContain('the control plane has no kind "svcs"; did you mean svc?');
    expect(await line("get svc -n empty")).toEqual({ code: 0, out: "", err: "no services in namespace empty\n" });
  });

  test("a watch prints what changes and ends at SIGTERM", async () => {
    const child = Bun.spawn([weftBin, "get", "svc", "-n", "shop", "-w", "-o", "json"], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: env(),
    });
    const seen: { type: string; object: { metadata: { name: string } } }[] = [];
    const reading = (async () => {
      let rest = "";
      for await (const chunk of child.stdout) {
        const parts = (rest + new TextDecoder().decode(chunk)).split("\n");
        rest = parts.pop() ?? "";
        for (const each of parts) seen.push(JSON.parse(each));
      }
    })();
    const names = () => seen.map((event) => `${event.type} ${event.object.metadata.name}`);
    await eventually(
      5000,
      async () => seen.length,
      (count) => count >= 2,
    );
    await weft(["apply", "-f", "-"], service("watched"));
    await weft(["apply", "-f", "-"], service("watched", 81));
    await line("delete svc watched -n shop");
    await eventually(
      5000,
      async () => seen.length,
      (count) => count >= 5,
    );
    expect(names()).toEqual(["ADDED fine", "ADDED reviews", "ADDED watched", "MODIFIED watched", "DELETED watched"]);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    await reading;
  });

  test("describe: spec, conditions, what is around", async () => {
    const { out } = await line("describe httproute reviews -n shop");
    expect(out).toMatch(/For Service reviews:80:\n +TYPE +STATUS +REASON/);
    expect(out).toMatch(/ResolvedRefs +False +BackendNotFound/);
    const around = (await line("describe svc/reviews -n shop")).out;
    expect(around).toContain("Instances:\n  none with app=reviews");
    expect(around).toMatch(/Routes:\n +KIND +NAME +AGE\n +HTTPRoute +shop\/reviews/);
    expect((await line("describe svc -n shop")).code).toBe(2);
  });

  test("describe: what a policy's targets and a Gateway's listeners say, and what happened", async () => {
    const events = ["first", "second"].map(
      (reason, at) => `---
apiVersion: v1
kind: Event
metadata: {name: o.${reason}, namespace: shop}
involvedObject: {apiVersion: weft.dev/v1alpha1, kind: OverloadPolicy, name: o, namespace: shop}
reason: ${reason}
message: it is the ${reason}
type: Warning
lastTimestamp: "2026-01-0${2 - at}T00:00:00Z"
`,
    );
    const policy = `apiVersion: weft.dev/v1alpha1
kind: OverloadPolicy
metadata: {name: o, namespace: shop}
spec: {targetRefs: [{kind: Service, name: reviews, sectionName: nope}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: web, port: 8080, protocol: HTTP}]}
`;
    expect((await weft(["apply", "-f", "-"], policy + events.join(""))).code).toBe(0);
    const said = await eventually(
      10_000,
      async () => (await line("describe overloadpolicy o -n shop")).out,
      (out) => out.includes("TargetNotFound"),
    );
    expect(said).toMatch(/For Service reviews\/nope:\n +TYPE +STATUS +REASON[^\n]*\n +Accepted +False +TargetNotFound/);
    expect(said).toMatch(/Events:\n +LAST SEEN +TYPE +REASON +MESSAGE\n[^\n]* second +it is the second\n[^\n]* first +it is the first\n$/);
    const gateway = await eventually(
      10_000,
      async () => (await line("describe gateway edge -n shop")).out,
      (out) => out.includes("Listener web"),
    );
    expect(gateway).toMatch(/Listener web, 0 routes:\n +TYPE +STATUS[^\n]*\n +Accepted +True/);
    expect(gateway).not.toContain("Status:\n");
    await line("delete overloadpolicy/o gateway/edge -n shop");
  });

  test("delete by name, by file, by label, never all by accident", async () => {
    expect((await line("delete svc -n shop")).code).toBe(2);
    expect((await line("delete svc fine -n shop")).out).toBe("service/fine deleted\n");
    const again = await line("delete svc fine -n shop");
    expect([again.code, again.err]).toEqual([1, 'error: services "fine" not found\n']);
    expect((await line("delete svc fine -n shop --ignore-not-found")).code).toBe(0);
    const { code, out } = await weft(["delete", "-f", "-"], `${service("reviews")}---\n${route(1)}`);
    expect([code, out]).toEqual([0, "httproute.gateway.networking.k8s.io/reviews deleted\nservice/reviews deleted\n"]);
  });
});

describe("around it", () => {
  test("version, status, top and logs of an empty mesh", async () => {
    expect((await line("version")).out).toMatch(/^client +weft \S+ \(bun .*\nserver +weft \S+ at https:\/\/127\.0\.0\.1:\d+\n$/);
    expect(await line("status")).toMatchObject({ code: 0, out: "" });
    expect(JSON.parse((await line("status -o json")).out)).toMatchObject({ connected: 0, proxies: [] });
    expect((await line("top")).code).toBe(0);
    expect(JSON.parse((await line("top -o json")).out)).toEqual({ windowSeconds: 10, edges: [] });
    const { out } = await line("logs -o json");
    for (const each of out.trim().split("\n")) expect(JSON.parse(each)).toHaveProperty("message");
  });

  test("the printed kubeconfig is complete: it works from elsewhere", async () => {
    const file = join(dir, "copy.kubeconfig");
    writeFileSync(file, (await line("kubeconfig")).out);
    expect((await weft(["get", "namespaces", "--kubeconfig", file, "-o", "name"], "", { WEFT_DATA: "/nonexistent" })).code).toBe(0);
    expect((await line("kubeconfig --ttl 2h")).code).toBe(2);
    expect((await line("kubeconfig --service-account a --ttl 5m")).err).toContain('--ttl takes 10m to 24h, not "5m"');
  });

  test("a credential of 20 kB is refused in words, as is a route to what is not there warned of", async () => {
    const config = (await line("kubeconfig")).out;
    const [server = "", ca = ""] = ["server", "certificate-authority-data"].map(
      (key) => new RegExp(`${key}: ["']?([^"'\\s]+)`).exec(config)?.[1] ?? "",
    );
    const answer = await fetch(`${server}/api/v1/namespaces`, {
      headers: { authorization: `Bearer ${"x".repeat(20_000)}` },
      tls: { ca: Buffer.from(ca, "base64").toString() },
    });
    expect({ code: answer.status, body: (await answer.json()) as unknown }).toMatchObject({
      code: 401,
      body: { kind: "Status", message: expect.stringContaining("has 20000 characters; no token of this mesh has more than 8192") },
    });
    const route = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: misspelt, port: 80}]
  rules: [{backendRefs: [{name: alos, port: 80}]}]
`;
    const { code, err } = await weft(["apply", "-f", "-"], route);
    expect({ code, err: err.split("\n").filter((each) => each !== "") }).toEqual({
      code: 0,
      err: [
        expect.stringContaining("spec.parentRefs[0]: there is no Service shop/misspelt; the route takes effect when it is created"),
        expect.stringContaining(
          "spec.rules[0].backendRefs[0]: there is no Service shop/alos: requests that go there get 500 until there is",
        ),
      ],
    });
    await line("delete httproute lost -n shop");
  });

  test("no control plane: a sentence and status 1", async () => {
    const away = await weft(["get", "svc"], "", { WEFT_DATA: join(dir, "nowhere") });
    expect(away).toMatchObject({ code: 1, out: "" });
    expect(away.err).toContain('Start a control plane with "weft up"');
  });

  test("help goes to stdout with status 0, wrong use to stderr with 2", async () => {
    expect(await line("help")).toMatchObject({ code: 0, err: "" });
    expect((await line("help run")).out).toBe((await line("run --help")).out);
    expect((await line("up --help")).out).toContain("weft up --data ./mesh");
    expect(await line("gett svc")).toMatchObject({
      code: 2,
      out: "",
      err: 'error: weft has no verb "gett"; did you mean get?\nweft help lists all verbs.\n',
    });
    const { code, out, err } = await weft([]);
    expect([code, out]).toEqual([2, ""]);
    expect(err).toContain("Usage: weft VERB");
  });

  test("a reader that has seen enough is no failure", async () => {
    const shell = Bun.spawn(["sh", "-c", `"${weftBin}" help | head -1; "${weftBin}" get all -A -o json | head -c 1`], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: env(),
    });
    const [out, err] = await Promise.all([new Response(shell.stdout).text(), new Response(shell.stderr).text()]);
    expect([out.split("\n")[0], err]).toEqual([
      "Weft, a service mesh: a sidecar beside each program, one control plane, no Kubernetes needed.",
      "",
    ]);
  });

  test("bash completes verbs, kinds and live names", async () => {
    await weft(["apply", "-f", "-"], service("alpha"));
    const script = `source <("${weftBin}" completion bash)
try() { COMP_WORDS=("${weftBin}" "$@"); COMP_CWORD=$#; COMPREPLY=(); _weft; echo "\${COMPREPLY[*]}"; }
try desc
try get httpr
try get svc -n shop al
try get -n shop svc/al
try get svc -o js
try get svc --namespace = sh`;
    const shell = Bun.spawn(["bash", "-c", script], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env: env() });
    expect((await new Response(shell.stdout).text()).split("\n")).toEqual([
      "describe",
      "httproutes",
      "alpha",
      "svc/alpha",
      "json",
      "shop",
      "",
    ]);
  });

  test("the launcher works through a chain of links, from any folder", async () => {
    const link = join(dir, "weft-link");
    const chain = Bun.spawnSync(["sh", "-c", `ln -s "${weftBin}" "${dir}/first" && ln -s first "${link}"`]);
    expect(chain.exitCode).toBe(0);
    const child = Bun.spawnSync([link, "version", "--client"], { cwd: "/", env: env() });
    expect(child.stdout.toString()).toStartWith("client   weft ");
  });

  test("without Bun the launcher says what to do", () => {
    const copy = join(dir, "bare");
    const made = Bun.spawnSync([
      "sh",
      "-c",
      `mkdir -p "${copy}/bin" "${copy}/node_modules/bun/bin" && cp "${weftBin}" "${copy}/bin/" && printf 'echo "Error: postinstall was not run"\\nexit 1\\n' > "${copy}/node_modules/bun/bin/bun.exe" && chmod +x "${copy}/node_modules/bun/bin/bun.exe"`,
    ]);
    expect(made.exitCode).toBe(0);
    const child = Bun.spawnSync([join(copy, "bin", "weft"), "version"], { env: env() });
    expect(child.exitCode).toBe(1);
    expect(child.stderr.toString()).toContain("its install script has not run");
    expect(child.stderr.toString()).toContain("npm ci");
  });
});

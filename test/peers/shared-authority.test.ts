// One certificate authority of several control planes on one etcd: its root replaced while they come and go, its key under a passphrase, and an intermediate
// that the user gives to all of them. Judges: etcd, for what stands in it; openssl.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { Processes } from "../../demo/processes.ts";
import type { CaStatus } from "../../src/control/identity/rotation.ts";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { annotations } from "../../src/wire/names.ts";
import { EtcdServers } from "../support/etcd.ts";
import { app } from "../support/mesh.ts";
import { needsPeers } from "../support/peers.ts";

describe.skipIf(!needsPeers("shared-authority.test.ts", "etcd"))("the authority of control planes on one etcd", () => {
  let servers: EtcdServers;
  let serial = 0;
  const cleanups: (() => unknown)[] = [];
  beforeAll(async () => {
    servers = await EtcdServers.start();
  }, 30_000);
  afterEach(async () => {
    for (const run of cleanups.splice(0).reverse()) await run();
  });
  afterAll(async () => {
    await servers?.stop();
  });

  const folder = () => {
    const dir = mkdtempSync(join(tmpdir(), "weft-authority-"));
    cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
    return dir;
  };
  const up = async (dir: string, prefix: string, more: Partial<Parameters<typeof startControlPlane>[0]> = {}) => {
    const address = { members: servers.addresses.split(","), prefix, tls: undefined, user: undefined };
    const plane = await startControlPlane({
      dataDir: dir,
      apiPort: 0,
      xdsPort: 0,
      dashboardPort: 0,
      store: { kind: "etcd", address },
      ...more,
    });
    cleanups.push(() => plane.stop());
    return plane;
  };
  const ask = async (plane: ControlPlane, method: string, path: string) => {
    const config = Bun.YAML.parse(readFileSync(plane.kubeconfigPath, "utf8")) as {
      clusters: [{ cluster: { server: string; "certificate-authority-data": string } }];
      users: [{ user: { token: string } }];
    };
    const { cluster } = config.clusters[0];
    const response = await fetch(cluster.server + path, {
      method,
      tls: { ca: Buffer.from(cluster["certificate-authority-data"], "base64").toString() },
      headers: { authorization: `Bearer ${config.users[0].user.token}` },
      proxy: "",
    });
    return { status: response.status, body: (await response.json()) as CaStatus & { message?: string } };
  };
  const status = async (plane: ControlPlane): Promise<CaStatus> => (await ask(plane, "GET", "/weft/v1alpha1/ca")).body;
  const until = async (what: string, holds: () => boolean | Promise<boolean>, limitMs = 20_000) => {
    const end = performance.now() + limitMs;
    while (!(await holds())) {
      if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
      await Bun.sleep(20);
    }
  };
  const root = (dir: string) => readFileSync(join(dir, "ca.crt"), "utf8").trim();
  const openssl = (...args: string[]): string => {
    const run = Bun.spawnSync(["openssl", ...args]);
    return run.stdout.toString() + run.stderr.toString();
  };

  test("a root is replaced while one is away, which follows, and one of another mesh is still refused", async () => {
    const prefix = `/authority-${++serial}`;
    const [first, second, third] = [folder(), folder(), folder()] as const;
    const one = await up(first, prefix);
    const two = await up(second, prefix);
    const away = await up(third, prefix);
    await away.stop();
    const before = root(first);
    // Asked of the one that does no singleton work.
    expect((await ask(two, "POST", "/weft/v1alpha1/ca/rotate")).status).toBe(200);
    expect((await ask(one, "POST", "/weft/v1alpha1/ca/rotate")).body.message).toContain("is being replaced already");
    for (const plane of [one, two]) await until("the new root issues", async () => (await status(plane)).rotation?.phase === "issuing");
    expect((await status(one)).issuer).toEqual((await status(two)).issuer);
    expect((await status(two)).roots.length).toBe(2);
    // The one that leads goes; the other one ends it.
    await one.stop();
    await until("nobody misses it", async () => (await ask(two, "POST", "/weft/v1alpha1/ca/finish")).status === 200);
    expect((await status(two)).rotation).toBeNull();
    expect(root(second)).not.toBe(before);
    expect(root(third)).toBe(before);
    const back = await up(third, prefix);
    expect(root(third)).toBe(root(second));
    expect((await status(back)).issuer).toEqual((await status(two)).issuer);
    expect(openssl("verify", "-CAfile", join(second, "ca.crt"), join(third, "server.crt"))).toContain(": OK");
    const own = folder();
    const alone = await startControlPlane({ dataDir: own, apiPort: 0, xdsPort: 0, dashboardPort: 0 });
    await alone.stop();
    await expect(up(own, prefix)).rejects.toThrow(/two certificate authorities claim one mesh/);
  }, 60_000);

  test("a root is replaced under load while proxies hang on several of them and the one that leads is killed", async () => {
    const store = `etcd://${servers.addresses}/authority-${++serial}`;
    const planes: Processes[] = [];
    const start = async (dir: string) => {
      const plane = new Processes(dir);
      planes.push(plane);
      await plane.startControlPlane(["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0", "--store", store]);
      return plane;
    };
    cleanups.push(() => Promise.all(planes.map((plane) => plane.stopAll())));
    const first = await start(folder());
    const second = await start(folder());
    const callers: string[] = [];
    for (const service of ["a", "b", "c", "d"])
      second.startInstance({
        service,
        name: service,
        port: await freePort(),
        command: app("echo.ts"),
        flags: ["--service-account", service],
      });
    type Entries = { items: { metadata: { labels?: { app?: string }; annotations?: Record<string, string> } }[] };
    const state = (of: Processes) => of.weftJson<CaStatus>(["ca", "status"]);
    await until("everybody is there", async () => (await state(second)).holders === 4, 30_000);
    for (const { metadata } of (await second.weftJson<Entries>(["get", "workloadentries", "-n", "shop"])).items)
      callers.push(`http://127.0.0.1:${metadata.annotations?.[annotations.httpProxyPort]}`);
    const ask = async (n: number) => {
      const answer = await fetch(`http://${["a", "b", "c", "d"][n % 4]}/x`, { proxy: callers[(n + 1) % 4] as string }).catch(
        (cause: unknown) => cause,
      );
      if (!(answer instanceof Response)) return String(answer);
      await answer.text();
      return answer.status;
    };
    await until("all answer each other", async () => (await Promise.all([0, 1, 2, 3].map(ask))).every((code) => code === 200));
    const wrong: unknown[] = [];
    let asked = 0;
    let on = true;
    const load = (async () => {
      while (on) {
        const code = await ask(asked++);
        if (code !== 200) wrong.push(code);
        await Bun.sleep(10);
      }
    })();
    expect((await second.weft(["ca", "rotate"])).code).toBe(0);
    // Of both one leads; the first came first.
    first.controlPlane?.kill("SIGKILL");
    await until("the new root issues", async () => (await state(second)).rotation?.phase === "issuing", 30_000);
    await until("all have renewed", async () => (await state(second)).holdersOfIssuer === 4, 30_000);
    await until("nobody is cut off", async () => (await second.weft(["ca", "finish"])).code === 0, 30_000);
    expect((await state(second)).roots.length).toBe(1);
    const before = asked;
    await until("some more", () => asked > before + 20);
    on = false;
    await load;
    expect(wrong).toEqual([]);
  }, 120_000);

  test("the key is under a passphrase in etcd too, once one control plane has it", async () => {
    const prefix = `/authority-${++serial}`;
    const [first, second] = [folder(), folder()] as const;
    const plain = await up(first, prefix);
    await plain.stop();
    const kept = async () => {
      const body = JSON.stringify({ key: Buffer.from(`${prefix}/secret/ca.key`).toString("base64") });
      const answer = await fetch(`http://${servers.addresses.split(",")[0]}/v3/kv/range`, { method: "POST", body, proxy: "" });
      const { kvs } = (await answer.json()) as { kvs: [{ value: string }] };
      return Buffer.from(kvs[0].value, "base64").toString();
    };
    expect(await kept()).toContain("BEGIN PRIVATE KEY");
    const more = { caPassphrase: "correct horse battery staple" };
    const one = await up(first, prefix, more);
    expect(await kept()).toContain("BEGIN ENCRYPTED PRIVATE KEY");
    await expect(up(second, prefix)).rejects.toThrow(/ca\.key is encrypted; give its passphrase/);
    const two = await up(second, prefix, more);
    expect((await status(two)).issuer).toEqual((await status(one)).issuer);
  }, 60_000);

  test("a given intermediate is the same for all, and another one is refused", async () => {
    const prefix = `/authority-${++serial}`;
    const dir = folder();
    const at = (name: string) => join(dir, name);
    const make = (name: string, under: string | undefined, ...extensions: string[]) => {
      openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", at(`${name}.key`));
      openssl("req", "-new", "-key", at(`${name}.key`), "-subj", `/CN=${name}`, "-out", at(`${name}.csr`));
      writeFileSync(at("ext"), ["subjectKeyIdentifier=hash", "keyUsage=critical,keyCertSign,cRLSign", ...extensions].join("\n"));
      const signer =
        under === undefined
          ? ["-signkey", at(`${name}.key`)]
          : ["-CA", at(`${under}.crt`), "-CAkey", at(`${under}.key`), "-CAcreateserial"];
      openssl("x509", "-req", "-in", at(`${name}.csr`), ...signer, "-days", "30", "-extfile", at("ext"), "-out", at(`${name}.crt`));
    };
    make("root", undefined, "basicConstraints=critical,CA:TRUE");
    make("mesh", "root", "basicConstraints=critical,CA:TRUE,pathlen:0");
    make("other", undefined, "basicConstraints=critical,CA:TRUE");
    writeFileSync(at("chain.pem"), readFileSync(at("mesh.crt"), "utf8") + readFileSync(at("root.crt"), "utf8"));
    const given = (certificate: string, key: string) => ({
      trustDomain: "example.org",
      caFiles: { certificateFile: at(certificate), keyFile: at(key), rootFile: undefined },
    });
    const one = await up(folder(), prefix, given("chain.pem", "mesh.key"));
    const two = await up(folder(), prefix, given("chain.pem", "mesh.key"));
    expect(await status(two)).toMatchObject({ given: true, trustDomain: "example.org", issuer: (await status(one)).issuer });
    expect((await ask(one, "POST", "/weft/v1alpha1/ca/rotate")).body.message).toContain("is given by --ca-cert");
    await expect(up(folder(), prefix, given("other.crt", "other.key"))).rejects.toThrow(/two certificate authorities claim one mesh/);
    await expect(up(folder(), prefix)).rejects.toThrow(/give it again \(--ca-cert, --ca-key\)/);
  }, 60_000);
});

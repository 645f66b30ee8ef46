// Where the options of `weft up` come from, and in which order.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfigFile } from "./config-file.ts";
import { parseOptions } from "./options.ts";

const dir = mkdtempSync(join(tmpdir(), "weft-options-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const file = (text: string) => {
  const path = join(dir, "weft.yaml");
  writeFileSync(path, text);
  return path;
};
const parse = (argv: string[], env: Record<string, string> = {}) => parseOptions(argv, { HOME: "/home/w", ...env }, readConfigFile);

test("a flag goes before the environment, that before the file, that before the default", () => {
  const config = file("data: /from/file\napi-port: 1\nxds-port: 2\ndashboard-port: 3\napi-rate: 7\nlog-format: json\n");
  const env = { WEFT_CONFIG: config, WEFT_XDS_PORT: "20", WEFT_DASHBOARD_PORT: "30", WEFT_LOG_LEVEL: "warn" };
  expect(parse(["--dashboard-port", "300"], env)).toEqual({
    dataDir: "/from/file",
    listen: "127.0.0.1",
    apiPort: 1,
    xdsPort: 20,
    dashboardPort: 300,
    trustDomain: undefined,
    caFiles: undefined,
    caRootFile: undefined,
    caPassphraseFile: undefined,
    caPassphrase: undefined,
    joinSocket: undefined,
    joinUsers: undefined,
    clientCaFile: undefined,
    apiRate: 7,
    store: { kind: "sqlite", dir: undefined },
    storeKey: undefined,
    etcdRequestBytes: undefined,
    xdsAddress: undefined,
    logLevel: "warn",
    logFormat: "json",
  });
  expect(parse(["--ca-cert", "a", "--ca-key", "b"], { WEFT_CA_PASSPHRASE: "p" })).toMatchObject({
    caFiles: { certificateFile: "a", keyFile: "b", rootFile: undefined },
    caPassphrase: "p",
  });
  expect(parse([])).toMatchObject({ dataDir: "/home/w/.weft", apiRate: undefined, apiPort: undefined });
  expect(parse(["--config", config], { WEFT_DATA: "/from/env" })).toMatchObject({ dataDir: "/from/env" });
  expect(parse(["--config", file("")])).toMatchObject({ logLevel: "info" });
});

test("what is wrong is said with where it stands", () => {
  const refused: [argv: string[], env: Record<string, string>, words: RegExp][] = [
    [["--ca-cert", "a"], {}, /^--ca-cert is an authority to issue from; give its private key too, with --ca-key FILE$/],
    [[], { WEFT_CA_KEY: "b" }, /^\$WEFT_CA_KEY is the key of an authority; give its certificate too/],
    [[], { WEFT_API_PORT: "x" }, /^\$WEFT_API_PORT takes a port from 0 to 65535 .*, not "x"$/],
    [["--client-ca", "own", "--store", "etcd://a:2379"], {}, /^--client-ca own is an authority in one data folder/],
    [["--config", file("api-prot: 1\n")], {}, /has "api-prot", which is not known; did you mean "api-port"/],
  ];
  for (const [argv, env, words] of refused) expect(() => parse(argv, env)).toThrow(words);
  expect(() => parse(["--config", file("listen: nowhere\n")])).toThrow(/^listen in .*weft\.yaml takes an IP address, not "nowhere"$/);
  expect(() => parse(["--config", file("api-port: [1]\n")])).toThrow(/api-port takes a text or a number, not \[1\]/);
  expect(() => parse(["--config", file("- 1\n")])).toThrow(/is no mapping/);
  expect(() => parse(["--config", join(dir, "none.yaml")])).toThrow(/cannot be read \(ENOENT\)/);
  expect(() => parse(["--api-rate", "-1"])).toThrow(/^--api-rate takes a whole number/);
});

test("the passphrase file goes by the name that weft ca has for it too", () => {
  for (const argv of [["--ca-passphrase-file", "p"], ["--passphrase-file", "p"], ["--passphrase-file=p"]])
    expect(parse(argv)).toMatchObject({ caPassphraseFile: "p" });
  expect(() => parse(["--passphrase-file"])).toThrow("--passphrase-file needs a value");
});

test("a store in etcd is named by its members and a prefix; what does not fit is refused with the way out", () => {
  const store = (...argv: string[]) => {
    const options = parse(argv);
    if (options === "help" || options.store.kind !== "etcd") throw new Error("not etcd");
    return options.store.address;
  };
  expect(store("--store", "etcd://a:2379,[::1]:2380/one/mesh/")).toMatchObject({
    members: ["a:2379", "[::1]:2380"],
    prefix: "/one/mesh",
    tls: undefined,
    user: undefined,
  });
  expect(store("--store=etcds://a:1")).toMatchObject({ prefix: "/weft", tls: { caFile: undefined } });
  expect(parse([], { WEFT_STORE: "etcd://a:1", WEFT_ETCD_USER: "weft", WEFT_ETCD_PASSWORD: "secret" })).toMatchObject({
    store: { kind: "etcd", address: { user: { name: "weft" } } },
  });
  const refusal = (...argv: string[]) => {
    try {
      parse(argv);
    } catch (cause) {
      return (cause as Error).message;
    }
    throw new Error("accepted");
  };
  expect(refusal("--store", "redis://a:1")).toMatch(/--store takes sqlite, .* not "redis:/);
  expect(refusal("--store", "kubernetes")).toMatch(/not there yet: .*etcd:/);
  expect(refusal("--store", "etcd://a")).toMatch(/"a" is not HOST:PORT/);
  expect(refusal("--store", "etcd://me:pw@a:1")).toMatch(/a user goes into --etcd-user/);
  expect(refusal("--store", "etcd://a:1", "--etcd-user", "weft")).toMatch(/needs a password/);
  expect(refusal("--store", "etcd://a:1", "--etcd-cert", "x")).toMatch(/belong together/);
  expect(refusal("--etcd-ca", "x")).toMatch(/is for a store in etcd/);
  expect(refusal("--xds-address", "a")).toMatch(/takes HOST:PORT/);
});

// Tokens of end users with real processes: the control plane fetches the keys over https, sidecars check tokens by themselves, policies ask for users, and
// what the status says is what is so; also while the issuer is away.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportJWK, type GenerateKeyPairResult, generateKeyPair, SignJWT } from "jose";
import { freePort } from "../../demo/cast.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-issuer-"));
const [certFile, keyFile] = [join(folder, "issuer.pem"), join(folder, "issuer.key")];
const trusted = process.env.NODE_EXTRA_CA_CERTS;
let mesh: TestMesh;
let cart: Running;
let web: Running;
let server: Bun.Server<undefined>;
let pair: GenerateKeyPairResult;
let asked = 0;
let away = false;

function issuerYaml(port: number, nobody: number): string {
  return `
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  jwtRules:
    - issuer: https://issuer.test
      audiences: [shop]
      jwksUri: https://localhost:${port}/keys
      outputClaimToHeaders: [{header: x-user, claim: sub}]
    - issuer: https://nobody.test
      jwksUri: https://localhost:${nobody}/keys
      timeout: 1s
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: cart-admin, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  action: ALLOW
  rules:
    - to: [{operation: {notPaths: ["/admin*"]}}]
    - from: [{source: {requestPrincipals: ["https://issuer.test/*"]}}]
      when: [{key: "request.auth.claims[groups]", values: [admins]}]
`;
}

function sign(claims: Record<string, unknown>, issuer = "https://issuer.test"): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ sub: "ann", exp: now + 600, aud: "shop", iss: issuer, ...claims })
    .setProtectedHeader({ alg: "ES256", kid: "one" })
    .sign(pair.privateKey);
}

async function call(path: string, token?: string): Promise<{ status: number; reason: string; user: unknown; token: unknown }> {
  const answer = await fetch(`http://cart.shop${path}`, {
    proxy: web.httpProxy,
    headers: { "x-user": "forged", ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
  });
  const text = await answer.text();
  const seen = answer.status === 200 ? (JSON.parse(text) as { headers: Record<string, string> }).headers : {};
  return { status: answer.status, reason: answer.headers.get("www-authenticate") ?? "", user: seen["x-user"], token: seen.authorization };
}

async function condition(type: string): Promise<Condition | undefined> {
  const object = await mesh.processes.weftJson<KubeObject>(["get", "requestauthentications", "cart", "-n", "shop"]);
  return (object.status as { conditions?: Condition[] } | undefined)?.conditions?.find((each) => each.type === type);
}

beforeAll(async () => {
  const made = Bun.spawnSync(
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ${keyFile} -out ${certFile} -subj /CN=localhost -addext subjectAltName=DNS:localhost`.split(
      " ",
    ),
  );
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  pair = await generateKeyPair("ES256", { extractable: true });
  const keys = JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: "one" }] });
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    tls: { cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") },
    fetch: () => {
      asked++;
      return away ? new Response("away", { status: 503 }) : new Response(keys);
    },
  });
  process.env.NODE_EXTRA_CA_CERTS = certFile;
  mesh = await TestMesh.start();
  cart = await mesh.run({ service: "cart", name: "cart-a", command: app("echo.ts") });
  web = await mesh.run({ service: "web", name: "web-a", command: app("echo.ts") });
  await mesh.apply(issuerYaml(server.port as number, await freePort()));
}, 60_000);

afterAll(async () => {
  if (trusted === undefined) delete process.env.NODE_EXTRA_CA_CERTS;
  else process.env.NODE_EXTRA_CA_CERTS = trusted;
  await mesh?.stop();
  server?.stop(true);
  rmSync(folder, { recursive: true, force: true });
}, 30_000);

test("the keys are fetched, and good tokens pass", async () => {
  const token = await sign({ groups: ["admins"] });
  const first = await eventually(
    20_000,
    () => call("/admin", token),
    ({ status }) => status === 200,
  );
  expect(first).toEqual({ status: 200, reason: "", user: "ann", token: undefined });
  expect(asked).toBe(1);
}, 60_000);

test("who shows no token passes where none is asked for, and bad ones pass nowhere", async () => {
  const denied = await metricSum(cart, "envoy_http_jwt_authn_denied");
  expect(await call("/")).toEqual({ status: 200, reason: "", user: undefined, token: undefined });
  expect((await call("/admin")).status).toBe(403);
  expect((await call("/admin", await sign({ groups: ["staff"] }))).status).toBe(403);
  const expired = await call("/", await sign({ exp: Math.floor(Date.now() / 1000) - 600 }));
  expect([expired.status, expired.reason]).toEqual([401, 'Bearer realm="https://cart.shop/", error="invalid_token"']);
  expect((await call("/", await sign({ aud: "bank" }))).status).toBe(403);
  expect(await metricSum(cart, "envoy_http_jwt_authn_denied")).toBe(denied + 2);
}, 60_000);

test("an issuer whose keys never came has its tokens refused, and the status says so", async () => {
  const known = await eventually(
    20_000,
    () => condition("KeysKnown"),
    (found) => found?.reason === "FetchFailed",
  );
  expect([known?.status, known?.reason]).toEqual(["False", "FetchFailed"]);
  expect(known?.message).toContain("tokens of https://nobody.test are refused until the keys are known");
  expect((await call("/", await sign({}, "https://nobody.test"))).status).toBe(401);
}, 60_000);

test("while the issuer is away, and the control plane with it, tokens are checked as before", async () => {
  away = true;
  mesh.processes.controlPlane?.kill("SIGKILL");
  await mesh.processes.controlPlane?.exited;
  expect((await call("/admin", await sign({ groups: ["admins"] }))).status).toBe(200);
  expect((await call("/", await sign({ exp: 1 }))).status).toBe(401);
}, 60_000);

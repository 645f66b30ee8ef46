// Judge: Envoy, given the same bootstrap with `use_remote_address`: instances are told the same of where a request comes from.

import { afterAll, describe, expect, test } from "bun:test";
import { type ClientHttp2Session, connect } from "node:http2";
import { bootstrapText, type JsonObject, routeTo } from "../support/bootstrap.ts";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { ProxyProcess } from "../support/proxy.ts";

const run = needsPeers("test/peers/forwarded-envoy.test.ts", "envoy", "curl");

describe.skipIf(!run)("Envoy and Weft tell the same of clients", () => {
  const origin = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) =>
      Response.json([request.headers.get("x-forwarded-for"), request.headers.get("x-forwarded-proto"), request.headers.get("x-client")]),
  });
  const stops: (() => unknown)[] = [() => origin.stop(true)];
  afterAll(async () => {
    for (const stop of stops.reverse()) await stop();
  });

  test("whatever the client claims", async () => {
    const text = bootstrapText(
      "edge",
      [
        {
          name: "entry",
          direction: "INBOUND",
          routes: [
            // Routes are found by what stands in the head then, not by what the client claims.
            {
              match: { prefix: "/", headers: [{ name: "x-forwarded-proto", string_match: { exact: "https" } }] },
              direct_response: { status: 418 },
            },
            routeTo("origin"),
          ],
          manager: { use_remote_address: true },
        },
      ],
      [{ name: "origin", port: origin.port as number }],
    );
    const [weft, envoy] = [await ProxyProcess.start("weft", text), await ProxyProcess.start("envoy", text)];
    stops.push(
      () => weft.stop(),
      () => envoy.stop(),
    );
    // Of a client on its own machine Envoy tells the machine's address; Weft tells the connection's.
    let machine = "";
    const claims = [
      [],
      ["x-forwarded-for: 10.0.0.1"],
      ["x-forwarded-for: 10.0.0.1, 10.0.0.2"],
      ["x-forwarded-for:10.0.0.1", "x-forwarded-for: 10.0.0.2"],
      ["x-forwarded-for: unknown"],
      ["x-forwarded-proto: https"],
      ["x-forwarded-proto: https", "x-forwarded-for: 2001:db8::1"],
    ];
    for (const version of ["--http1.1", "--http2-prior-knowledge"])
      for (const claim of claims) {
        const ask = async (proxy: ProxyProcess) => {
          const fields = claim.flatMap((each) => ["-H", each]);
          const argv = [findPeer("curl") as string, "-s", "-m", "5", version, ...fields, `http://127.0.0.1:${proxy.port("entry")}/`];
          return (await execute(argv)).out.replaceAll(/, ?/g, ", ");
        };
        const [ours, theirs] = [await ask(weft), await ask(envoy)];
        machine ||= (JSON.parse(theirs) as [string])[0];
        expect(ours, `${version} ${claim.join(" and ")}`).toBe(theirs.replace(machine, "127.0.0.1"));
        expect(ours).toContain("127.0.0.1");
      }
  }, 60_000);

  /** A rule on the client's address. */
  const addressRule = (action: "ALLOW" | "DENY", prefix: string, length: number) => ({
    name: "envoy.filters.http.rbac",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
      rules: {
        action,
        policies: {
          client: { permissions: [{ any: true }], principals: [{ remote_ip: { address_prefix: prefix, prefix_len: length } }] },
        },
      },
    },
  });
  // What each listener takes for the client stands in a header that it adds.
  const told = {
    ...routeTo("origin"),
    request_headers_to_add: [{ header: { key: "x-client", value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } }],
  };
  const routes = [{ match: { prefix: "/elsewhere" }, redirect: { path_redirect: "/" } }, told];
  const edge = (hops: number, more = {}) => ({ use_remote_address: true, xff_num_trusted_hops: hops, ...more });
  const kinds: readonly [name: string, manager: JsonObject, filters?: readonly JsonObject[]][] = [
    ["edge", edge(0)],
    ["edge-1", edge(1)],
    ["edge-2", edge(2)],
    ["edge-silent", edge(0, { skip_xff_append: true })],
    ["edge-1-silent", edge(1, { skip_xff_append: true })],
    ["inside", {}],
    ["inside-1", { xff_num_trusted_hops: 1 }],
    ["edge-allow", edge(1), [addressRule("ALLOW", "10.0.0.0", 8)]],
    ["edge-deny", edge(1), [addressRule("DENY", "10.0.0.0", 8)]],
    ["edge-2-allow6", edge(2), [addressRule("ALLOW", "2001:db8::", 32)]],
    ["edge-0-deny", edge(0), [addressRule("DENY", "127.0.0.0", 8)]],
    ["inside-allow", {}, [addressRule("ALLOW", "10.0.0.0", 9)]],
    ["inside-deny6", {}, [addressRule("DENY", "2001:db8:8000::", 33)]],
  ];
  const claims: readonly (readonly string[])[] = [
    [],
    ...[
      "10.0.0.1",
      "10.0.0.1, 192.0.2.1",
      "10.0.0.1,10.200.0.2,\t192.0.2.1 ",
      "2001:db8::1, 10.0.0.2",
      "2001:DB8:0:0:8000::1,2001:db8:8000::7",
      "192.0.2.1, 2001:db8::7, 10.1.1.1",
      "10.0.0.1:80",
      "[2001:db8::1]",
      "[2001:db8::1]:443, 10.0.0.1",
      "unknown, 10.0.0.1",
      "10.0.0.1, unknown",
      "10.0.0.1,",
      "10.0.0.1,,",
      ",10.0.0.1",
      ",",
      ", ,",
      "10.0.0.1, , 10.0.0.2",
      "10.0.0.1 10.0.0.2",
      "10.0.0.256",
      "10.0.0",
      "10.1",
      "010.0.0.1",
      "0x0a.0.0.1",
      "1e1.0.0.1",
      "10.0.0.1.",
      "2001:db8:::1",
      "2001:db8::10.0.0.1",
      "10.0.0.1::",
      "2001:db8::g",
      "2001:db8::00001",
      "1:2:3:4:5:6:7:8:9",
      '"10.0.0.1"',
      "for=10.0.0.1",
    ].map((each) => [`x-forwarded-for: ${each}`]),
    ["x-forwarded-for: 10.0.0.1", "x-forwarded-for: 192.0.2.1"],
    ["x-forwarded-for: 10.0.0.1", "x-forwarded-for: 192.0.2.1,10.3.0.1"],
    ["x-forwarded-for;"],
    ["x-forwarded-for: 10.0.0.1", "x-forwarded-proto: https"],
    ["x-forwarded-proto: https"],
    ["x-forwarded-proto: http"],
    ["x-forwarded-proto: HTTPS"],
    ["x-forwarded-proto: wss"],
  ];

  test("behind proxies that are believed, or not", async () => {
    const text = bootstrapText(
      "hops",
      kinds.map(([name, manager, filters]) => ({ name, direction: "INBOUND" as const, routes, manager, ...(filters ? { filters } : {}) })),
      [{ name: "origin", port: origin.port as number }],
    );
    const [weft, envoy] = [await ProxyProcess.start("weft", text), await ProxyProcess.start("envoy", text)];
    stops.push(
      () => weft.stop(),
      () => envoy.stop(),
    );
    const all = kinds.flatMap(([name]) => claims.flatMap((claim) => ["/", "/elsewhere"].map((path) => ({ name, claim, path }))));
    /** What an instance was told, status, Location; HTTP/1.1 by one curl, HTTP/2 by one session a listener. */
    const ask = async (proxy: ProxyProcess, version: 1 | 2, asked: readonly Asked[]) => {
      const lines = version === 1 ? await askAll(proxy, asked) : await askAllOverHttp2(proxy, asked);
      expect(lines.length, `${proxy.subject} HTTP/${version}`).toBe(asked.length);
      return lines.map((line, n) => plain(line, asked[n]?.name ?? "", proxy));
    };
    // Of a client on its own machine Envoy tells the machine's address at an edge; Weft tells the connection's.
    let machine = "";
    const plain = (line: string, name: string, proxy: ProxyProcess): string => {
      const status = line.slice(line.lastIndexOf(" ", line.lastIndexOf(" ") - 1));
      if (!line.startsWith("[")) return status.replace(`:${proxy.port(name)}`, "");
      const [entries, scheme, client] = JSON.parse(line.slice(0, -status.length)) as (string | null)[];
      const list = (entries ?? "").split(/, ?/);
      if (name === "edge" && proxy.subject === "envoy") machine ||= list.at(-1) ?? "";
      if (name.startsWith("edge") && !name.endsWith("silent") && list.at(-1) === machine) list[list.length - 1] = "127.0.0.1";
      // What a listener that is no edge tells of the scheme, where nobody has, differs: docs/reference/envoy-differences.md.
      return `${JSON.stringify([list.join(","), name.startsWith("inside") ? null : scheme, client])}${status}`;
    };
    for (const version of [1, 2] as const) {
      // Over HTTP/2 Envoy redirects to the scheme that the request names, as on any connection; Weft to the one that is believed.
      const asked = version === 1 ? all : all.filter(({ path }) => path === "/");
      const [theirs, ours] = [await ask(envoy, version, asked), await ask(weft, version, asked)];
      const different = asked.flatMap(({ name, claim, path }, n) =>
        ours[n] === theirs[n] ? [] : [`HTTP/${version} ${name} ${path} ${claim.join(" and ")}: ${ours[n]}, Envoy ${theirs[n]}`],
      );
      expect(different).toEqual([]);
      // The differences that docs/reference/envoy-differences.md lists.
      const odd = ["::ffff:10.0.0.1", "fe80::1%1"].flatMap((each) =>
        ["edge-1", "edge-deny"].map((name) => ({ name, claim: [`x-forwarded-for: ${each}`], path: "/" })),
      );
      const answer = (entry: string, client: string) => `["${entry},127.0.0.1","http","${client}"] 200 `;
      const [mapped, zoned] = ["::ffff:10.0.0.1", "fe80::1%1"] as const;
      expect(await ask(envoy, version, odd)).toEqual([mapped, mapped, zoned, zoned].map((each) => answer(each, each)));
      expect(await ask(weft, version, odd)).toEqual([
        answer(mapped, "10.0.0.1"),
        " 403 ",
        answer(zoned, "127.0.0.1"),
        answer(zoned, "127.0.0.1"),
      ]);
      // Every answer that a rule can give is among them, or the comparison would be of nothing.
      for (const [name, , filters] of kinds)
        if (filters !== undefined)
          expect(new Set(ours.filter((_each, n) => asked[n]?.name === name).map((each) => each === " 403 ")), name).toEqual(
            new Set(name === "edge-0-deny" ? [true] : [true, false]),
          );
    }
  }, 60_000);
});

interface Asked {
  readonly name: string;
  readonly claim: readonly string[];
  readonly path: string;
}

async function askAll(proxy: ProxyProcess, asked: readonly Asked[]): Promise<string[]> {
  const parts = asked.map(({ name, claim, path }) => [
    ...["-s", "-m", "5", "--http1.1", "-w", " %{http_code} %{redirect_url}\n"],
    ...claim.flatMap((each) => ["-H", each]),
    `http://127.0.0.1:${proxy.port(name)}${path}`,
  ]);
  const { out } = await execute([findPeer("curl") as string, ...parts.flatMap((each, n) => (n === 0 ? each : ["--next", ...each]))]);
  return out.split("\n").filter((line) => / \d{3} \S*$/.test(line));
}

async function askAllOverHttp2(proxy: ProxyProcess, asked: readonly Asked[]): Promise<string[]> {
  const sessions = new Map<string, ClientHttp2Session>();
  const out: string[] = [];
  try {
    for (const { name, claim, path } of asked) {
      const port = proxy.port(name);
      const session = sessions.get(name) ?? connect(`http://127.0.0.1:${port}`).on("error", () => {});
      sessions.set(name, session);
      const fields: Record<string, string[]> = {};
      for (const each of claim) {
        const [field = "", value = ""] = each.split(/[:;] ?(.*)/s);
        fields[field] = [...(fields[field] ?? []), value.trim()];
      }
      out.push(
        await new Promise<string>((resolve, reject) => {
          const stream = session.request({ ":path": path, ...fields });
          let [head, body] = ["", ""];
          stream.setEncoding("utf8");
          stream.on("response", (answer) => {
            head = ` ${answer[":status"]} ${answer.location ?? ""}`;
          });
          stream.on("data", (data: string) => {
            body += data;
          });
          stream.on("end", () => resolve(`${body.startsWith("[") ? body : ""}${head}`));
          stream.on("error", reject);
        }),
      );
    }
  } finally {
    for (const session of sessions.values()) session.destroy();
  }
  return out;
}

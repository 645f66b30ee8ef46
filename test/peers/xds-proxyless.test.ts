// Judges: gRPC programs without a proxy, in Node (@grpc/grpc-js-xds), Go (grpc-go) and Python (gRPC's C core), as clients and as servers of one mesh:
// names by xds:///, mutual TLS by files, authorization, routes that change, and what they cannot do.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { findPeer, needsPeers } from "../support/peers.ts";
import { ask, freePort, goProgram, type Lines, Mesh, until } from "./xds-setup.ts";

const languages = ["node", "go", "python"] as const;
type Language = (typeof languages)[number];

describe.skipIf(!needsPeers("xds-proxyless.test.ts", "node", "go", "python-grpc"))("gRPC without a proxy", () => {
  let mesh: Mesh;
  let program: Record<Language, readonly string[]>;
  let web = "";
  const ports = {} as Record<Language, number>;
  const clients = new Map<string, Lines>();

  beforeAll(async () => {
    const go = await goProgram("client");
    const python = findPeer("python-grpc") as string;
    program = {
      node: [findPeer("node") as string, `${import.meta.dir}/xds-node.mjs`],
      go: [go],
      python: [python, `${import.meta.dir}/xds-python.py`],
    };
    mesh = await Mesh.start();
    web = await mesh.agent("web");
    for (const language of languages) {
      ports[language] = freePort();
      const folder = await mesh.agent(`echo-${language}`);
      await mesh.service(`echo-${language}`, 50051, "grpc");
      const port = ports[language];
      await mesh.entry(`echo-${language}-1`, `echo-${language}`, `echo-${language}`, { name: "grpc", port, appPort: port });
      const bootstrap = mesh.bootstrap(`echo-${language}-1`, "--grpc", "--dir", folder);
      const server = mesh.program([...program[language], "serve", String(port), language], { GRPC_XDS_BOOTSTRAP: bootstrap });
      await server.next(`the server in ${language}`);
    }
    await mesh.service("echo", 50051, "grpc");
  }, 600_000);
  afterAll(() => mesh?.stop());

  /** A client that lives as long as the tests. */
  function client(language: Language, target: string): Lines {
    const key = `${language} ${target}`;
    let found = clients.get(key);
    if (found === undefined) {
      const bootstrap = mesh.bootstrap(`web-${language}`, "--grpc", "--dir", web);
      found = mesh.program([...program[language], "call", target], { GRPC_XDS_BOOTSTRAP: bootstrap });
      clients.set(key, found);
    }
    return found;
  }

  for (const caller of languages) {
    for (const callee of languages) {
      test(`${caller} calls ${callee} by name, in mutual TLS`, async () => {
        const outcome = await until(`an answer`, async () => {
          const said = await ask(client(caller, `xds:///echo-${callee}.shop:50051`), "hello");
          return said[0] === "OK" ? said : undefined;
        }).catch(async (error: Error) => {
          const last = await ask(client(caller, `xds:///echo-${callee}.shop:50051`), "hello");
          throw new Error(`${error.message}: ${last.join(" ")} ${client(caller, `xds:///echo-${callee}.shop:50051`).err()}`);
        });
        expect(outcome).toEqual(["OK", `${callee} hello`]);
      }, 30_000);
    }
  }
});

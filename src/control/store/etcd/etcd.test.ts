import { afterAll, beforeAll, describe } from "bun:test";
import { EtcdServers } from "../../../../test/support/etcd.ts";
import { needsPeers } from "../../../../test/support/peers.ts";
import { storeContract } from "../contract.ts";
import { openSqliteStore } from "../sqlite.ts";
import type { EtcdAddress } from "./connection.ts";
import { openEtcdStore } from "./store.ts";

describe.skipIf(!needsPeers("etcd.test.ts", "etcd"))("etcd", () => {
  let servers: EtcdServers;
  let serial = 0;
  beforeAll(async () => {
    servers = await EtcdServers.start();
  }, 30_000);
  afterAll(async () => {
    await servers?.stop();
  });
  const address = (prefix: string): EtcdAddress => ({ members: servers.addresses.split(","), prefix, tls: undefined, user: undefined });

  storeContract("etcd", async () => {
    const prefix = `/contract-${++serial}`;
    return {
      open: () => openEtcdStore(address(prefix)),
      openCopy: async (path) => openSqliteStore(path),
      destroy: async () => undefined,
    };
  });
});

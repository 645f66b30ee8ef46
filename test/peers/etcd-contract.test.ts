import { afterAll, beforeAll, describe } from "bun:test";
import { storeContract } from "../../src/control/store/contract.ts";
import type { EtcdAddress } from "../../src/control/store/etcd/connection.ts";
import { openEtcdStore } from "../../src/control/store/etcd/store.ts";
import { openSqliteStore } from "../../src/control/store/sqlite.ts";
import { EtcdServers } from "../support/etcd.ts";
import { needsPeers } from "../support/peers.ts";

describe.skipIf(!needsPeers("etcd-contract.test.ts", "etcd"))("etcd", () => {
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

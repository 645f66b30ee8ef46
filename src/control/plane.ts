// Owns: the control plane's parts and the order in which they start and stop. The one place where they meet.
// Decides nothing itself. Never prints: `app.ts` does.
// Start order: folder and lock, identity, store, publisher, then the three servers; the API is last to open, so that whoever it answers
// finds the rest there. Stop order is the reverse.

import { join, resolve } from "node:path";
import type { RateLimitPolicyObject } from "../api/kinds/ratelimitpolicy-spec.ts";
import { kindByResource, kinds } from "../api/kinds.ts";
import { resourceOf } from "../api/meta.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { type Logger, silentLogger } from "../base/log.ts";
import { MetricRegistry } from "../base/metric.ts";
import { admit } from "../compile/admit.ts";
import { buildWorld, MeshCompiler, type World } from "../compile/compile.ts";
import { createInsight } from "../insight/insight.ts";
import { annotations } from "../wire/names.ts";
import { formatIdentity } from "../wire/spiffe.ts";
import { writeDenyList } from "../wire/trust.ts";
import { advise } from "./advice.ts";
import { openAuditLog } from "./apiserver/audit.ts";
import { readClientCa } from "./apiserver/client-certificate.ts";
import type { ApiServer } from "./apiserver/deps.ts";
import { type ApiListener, listenApi, listenWithCertificates } from "./apiserver/listen.ts";
import { defaultRatePerSecond, rateLimits } from "./apiserver/rate.ts";
import { createApiServer } from "./apiserver/server.ts";
import type { StagedChange } from "./apiserver/staged.ts";
import { Collector } from "./collector.ts";
import { dashboardHandler, listenDashboard } from "./dashboard/server.ts";
import { SignIn } from "./dashboard/signin.ts";
import { hadProxy, Liveness } from "./discovery/liveness.ts";
import { EventRecorder } from "./events.ts";
import { contentType, exposition, processMetrics } from "./exposition.ts";
import { authenticate, authorize, callerNamed, openAdminToken } from "./identity/access.ts";
import { AccessIndex, accessResources, groupsOf } from "./identity/access-index.ts";
import { type Authority, openAuthority, serverNames } from "./identity/authority.ts";
import { builtinObjects, isReserved } from "./identity/builtin-roles.ts";
import { bundleDocument } from "./identity/bundle.ts";
import { caPrefix, handleCa } from "./identity/ca-api.ts";
import { RevocationLists } from "./identity/crl.ts";
import { escalation } from "./identity/escalation.ts";
import { ensureFolder, privateMode, writeFileAtomic } from "./identity/files.ts";
import type { GivenFiles } from "./identity/given.ts";
import { JoinTokenList } from "./identity/jointokens.ts";
import { readPassphrase } from "./identity/key-file.ts";
import { Revocations } from "./identity/revocations.ts";
import { RootRotation, type TrustReport } from "./identity/rotation.ts";
import { type CaFiles, type CaStore, folderStore, readCaFolder, sameFiles } from "./identity/rotation-state.ts";
import type { Secret } from "./identity/secret.ts";
import { openSigningKey, openTokenAuthority, tokenLifeSeconds } from "./identity/token.ts";
import { userTokens } from "./identity/usertoken.ts";
import { fetchKeysByHttps } from "./keysets/fetch.ts";
import { KeyFetcher } from "./keysets/fetcher.ts";
import { adminKubeconfig } from "./kubeconfig.ts";
import type { Session } from "./lease/session.ts";
import { liveObjects } from "./live.ts";
import { lockFolder } from "./lock.ts";
import { controlMetrics } from "./metrics.ts";
import { bindPort, type Ports, rememberedPorts, rememberPorts } from "./ports.ts";
import { describePublication, Publisher } from "./publish/publisher.ts";
import { Counters, parseTold } from "./ratelimit/counters.ts";
import { Shifter } from "./shift/controller.ts";
import { backendTraffic } from "./shift/traffic.ts";
import type { StoreAddress } from "./store/address.ts";
import type { EtcdStore } from "./store/etcd/store.ts";
import type { Fence } from "./store/fence.ts";
import { openSqliteStore } from "./store/sqlite.ts";
import { type Revision, type Store, StoreFailure } from "./store/store.ts";
import { closedListenersOf } from "./xds/closed.ts";
import { LoadReports } from "./xds/load.ts";
import { ProxyList } from "./xds/proxies.ts";
import { ProxylessSource } from "./xds/proxyless.ts";
import { startXdsServer } from "./xds/server.ts";
import { insteadOf } from "./xds/unserved.ts";

/** Weft's own version. */
export const version = "0.1.0";

export interface ControlPlaneOptions {
  /** Folder for all state; made if missing. */
  readonly dataDir: string;
  /** IP address; default 127.0.0.1. The dashboard is on the loopback address whatever this says. */
  readonly listen?: string;
  /** undefined = that of the last run on this folder, else 7443, 7444, 7445; 0 = that of the last run if it is free, else any free one. */
  readonly apiPort?: number | undefined;
  readonly xdsPort?: number | undefined;
  readonly dashboardPort?: number | undefined;
  /** undefined = the folder's own, or `cluster.local` for a new one. */
  readonly trustDomain?: string | undefined;
  /** The user's own certificate authority; undefined = Weft's. */
  readonly caFiles?: GivenFiles | undefined;
  /** Roots to trust beside those of Weft's own authority. */
  readonly caRootFile?: string | undefined;
  /** Of the authority's key: a file, or the passphrase itself where none is named. */
  readonly caPassphraseFile?: string | undefined;
  readonly caPassphrase?: string | undefined;
  /** Unix socket at which programs of this machine join, and the rules of who may. */
  readonly joinSocket?: string | undefined;
  readonly joinUsers?: string | undefined;
  /** PEM file of authorities whose client certificates are credentials at the API, or `own`; undefined = none are. */
  readonly clientCaFile?: string | undefined;
  /** Requests a second that one user or service account may make of the API; 0 = no limit. */
  readonly apiRate?: number | undefined;
  /** Default: SQLite in the data folder. */
  readonly store?: StoreAddress | undefined;
  /** With etcd: the file that seals what control planes share there. */
  readonly storeKey?: string | undefined;
  /** etcd's --max-request-bytes; undefined = its default. */
  readonly etcdRequestBytes?: number | undefined;
  /** `host:port` that proxies are told; undefined = the one listened on. */
  readonly xdsAddress?: string | undefined;
  /** The shared store cannot be followed any further: what runs here is out of date for good, and must be started again. */
  readonly onLost?: ((why: string) => void) | undefined;
  readonly log?: Logger;
  readonly clock?: Clock;
}

export interface ControlPlane {
  /** `https://127.0.0.1:7443` */
  readonly apiUrl: string;
  /** `127.0.0.1:7444` */
  readonly xdsAddress: string;
  /** With the token that signs a browser in. */
  readonly dashboardUrl: string;
  readonly kubeconfigPath: string;
  readonly trustDomain: string;
  /** The mesh was made by this start. */
  readonly created: boolean;
  /** Ends streams and watches, closes the store. Idempotent. */
  stop(): Promise<void>;
}

/** What has been started, to be ended in reverse: also when a later step of the start fails. */
class Undo {
  readonly #steps: (() => unknown)[] = [];
  #done: Promise<void> | undefined;

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  run(log: Logger): Promise<void> {
    this.#done ??= this.#run(log);
    return this.#done;
  }

  async #run(log: Logger): Promise<void> {
    for (const step of this.#steps.reverse()) {
      try {
        await step();
      } catch (cause) {
        log.error({ cause }, "A part of the control plane could not be stopped cleanly");
      }
    }
  }
}

/** Starts everything in this process. Throws LockedError, IdentityError, PortError or StoreFailure in words meant for the user. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const log = options.log ?? silentLogger;
  const undo = new Undo();
  try {
    return await start(options, log, undo);
  } catch (cause) {
    await undo.run(log);
    throw cause;
  }
}

const entries = "workloadentries.networking.istio.io";
const limitPolicies = "ratelimitpolicies.weft.dev";
/** How often counters of windows that are over are forgotten. */
const limitSweepMs = 60_000;
const certificateCheckMs = 6 * 3_600_000;
/** A store that is silent for less is electing a leader. */
const notReadyAfterMs = 6_000;
/** How often some rows of the store are read though nobody asks for them: ten thousand in ten minutes, for some microseconds each. */
const lookEveryMs = 1_000;
/** How often the proxies of control planes that are gone are looked for. */
const adoptEveryMs = 5_000;

async function start(options: ControlPlaneOptions, log: Logger, undo: Undo): Promise<ControlPlane> {
  const clock = options.clock ?? systemClock;
  const listen = options.listen ?? "127.0.0.1";
  const dir = resolve(options.dataDir);
  const startedAtMs = clock.now();
  const randomBytes = (count: number) => crypto.getRandomValues(new Uint8Array(count));

  ensureFolder(dir);
  const lock = lockFolder(dir);
  undo.add(() => lock.release());

  const ownClients =
    options.clientCaFile === "own" ? await (await import("./client-authority.ts")).openClientAuthority(dir, clock) : undefined;
  const clientCa =
    options.clientCaFile === undefined
      ? undefined
      : (ownClients?.certificatePem ?? readClientCa(resolve(options.clientCaFile), clock.now()));
  const passphrase = readPassphrase(options.caPassphraseFile, options.caPassphrase);
  const shared = await openShared(options, dir, clock, log, undo, passphrase);
  const keptBefore = readCaFolder(dir);
  const authority = await openAuthority({
    dir,
    trustDomain: options.trustDomain,
    clock,
    random: randomBytes,
    given: options.caFiles,
    rootFile: options.caRootFile,
    passphrase,
  });
  await shared?.opened(authority, keptBefore);
  const admin = openAdminToken(dir);
  const names = serverNames(listen);
  let certificate = await authority.serverCertificate(names);

  const registry = new MetricRegistry();
  const metrics = controlMetrics(registry);
  processMetrics(registry, startedAtMs);

  const onError = (cause: unknown) => log.error({ cause }, "The store reports a failure");
  /** Into the log that users see, as soon as there is one. */
  let tellOfDamage = (_words: string): void => {};
  let doubt: string | undefined;
  const file =
    shared === undefined
      ? openSqliteStore(join(dir, "weft.db"), {
          keep: historyKept,
          onError,
          onDoubt: (why) => {
            log.warn({ why }, "The store's last change is not whole");
            doubt = why;
          },
          onDamage: (why) => {
            log.error({ why }, "The store is damaged: nothing more is written to it; proxies go on with what they have");
            tellOfDamage(`the store is damaged, nothing more is written to it; proxies go on with what they have: ${why}`);
          },
        })
      : undefined;
  const database = (shared?.store ?? file) as Store;
  if (file !== undefined) {
    undo.add(() => file.close());
    const looking = clock.every(lookEveryMs, () => file.look());
    undo.add(() => looking.cancel());
  }
  const store = metrics.timed(database);
  /** By which singleton work is done; undefined while another control plane does it. */
  let term: Store | undefined = shared === undefined ? store : undefined;
  let session: Session | undefined;
  const joinTokens = new JoinTokenList(store, clock, log, () => term);
  undo.add(() => joinTokens.stop());
  await joinTokens.follow();
  const revocations = await Revocations.open(store, clock, log, authority.trustDomain, () => term);
  undo.add(() => revocations.stop());
  const tokens = openTokenAuthority(
    dir,
    authority.trustDomain,
    clock,
    (...asked) => joinTokens.check(...asked),
    revocations,
    (binding) => joinTokens.whyNoMore(binding),
  );
  const access = await AccessIndex.open(store);
  undo.add(() => access.stop());
  const users = userTokens(openSigningKey(dir), authority.trustDomain, clock, (name) => access.user(name));
  const audit = openAuditLog(dir, clock, log);
  undo.add(() => audit.close());

  let proxyless: ProxylessSource | undefined;
  const proxies = new ProxyList(
    clock,
    (session) => proxyless?.shortfalls(session) ?? [],
    (key) => insight.circuits(key),
  );
  const { trustDomain } = authority;
  // The publisher's first round is reported before it is there to be asked.
  let started: Publisher<World> | undefined;
  const insight = createInsight({
    clock,
    trustDomain,
    workloads: () => started?.objects(entries) ?? [],
    workload: (namespace, name) => started?.object(entries, namespace, name),
    // Seldom and worth a look: an Event on the instance, beside the line in the log of whoever took it out.
    circuits: {
      ejected({ by, cluster, endpoint, workload, reason }) {
        const words = `${by} calls it no more for a while: ${reason} (${cluster}, ${endpoint})`;
        happened(workload, "Warning", "Ejected", words);
        const [namespace = "", name = ""] = (workload ?? "").split("/");
        event("warn", words, namespace, name);
        proxies.touch();
      },
      opened({ by, cluster, limit }) {
        const words = `${limit} of ${cluster} is reached: what is beyond it is refused`;
        happened(by, "Warning", "CircuitOpened", words);
        const [namespace = "", name = ""] = by.split("/");
        event("warn", words, namespace, name);
        proxies.touch();
      },
    },
  });
  const event = (level: "info" | "warn" | "error", message: string, namespace = "", workload = "") =>
    insight.event({ level, message, namespace, workload });
  tellOfDamage = (words) => event("error", words);
  if (doubt !== undefined) event("warn", doubt);

  const publisher: Publisher<World> = await Publisher.start<World>({
    store,
    clock,
    log,
    ignores: (resource) => accessResources.has(resource) || kindByResource(resource)?.transient === true,
    compiler: new MeshCompiler(trustDomain),
    onPublished: (publication) => {
      metrics.published(publication);
      proxyless?.published();
      if (publication.workloads.length === 0) return;
      const words = describePublication(publication);
      log.debug({ pushMs: Math.round(publication.pushMs), compileMs: Math.round(publication.compileMs) }, words);
      event("info", words);
    },
    onCompileFailed: (reason) => {
      metrics.compileFailures.value++;
      event("error", `the configuration could not be compiled, the last good one stays in force: ${reason}`);
    },
    onEvent: (stored) => {
      if (stored.key.resource !== entries) return;
      liveness.entryChanged(stored);
      if (stored.type === "deleted" && hadProxy(stored.object)) proxies.unregister(`${stored.key.namespace}/${stored.key.name}`);
    },
  });
  started = publisher;
  undo.add(() => publisher.stop());
  const sources = new ProxylessSource(publisher, () => publisher.world());
  proxyless = sources;
  // `outbound|80||cart.shop.svc.cluster.local`: the mesh's only where there is such a service.
  const loads = new LoadReports(registry, (cluster) => {
    const [name = "", namespace = ""] = (cluster.split("|")[3] ?? "").split(".");
    return publisher.object("services", namespace, name) !== undefined;
  });

  const counters = new Counters();
  const decisions = registry.counter("weft_control_rate_limit_decisions_total", "Answers of the rate limit service.", ["result"]);
  const limitDecisions = [decisions.with(["ok"]), decisions.with(["over_limit"])] as const;
  const forgetting = clock.every(limitSweepMs, () => counters.sweep(clock.now()));
  undo.add(() => forgetting.cancel());

  const liveness: Liveness = new Liveness({
    store,
    clock,
    log,
    resource: entries,
    isConnected: (key) => proxies.isConnected(key),
    ...(shared !== undefined && {
      // Before anything is known of the others they count as there: nobody's proxy is put out by a guess.
      among: { id: shared.id, isThere: (id) => session === undefined || session.members.some((member) => member.id === id) },
    }),
    onEvent: event,
  });
  undo.add(() => liveness.stop());
  liveness.start(publisher.objects(entries));

  const recorder = new EventRecorder({ store, clock, log, uid: () => crypto.randomUUID(), tidier: () => term });
  undo.add(() => recorder.stop());
  /** On the entry of a proxy; one that has been unregistered already has nothing to hang it on. */
  const happened = (key: string | undefined, type: "Normal" | "Warning", reason: string, message: string) => {
    const [namespace = "", name = ""] = (key ?? "").split("/");
    const regarding = publisher.object(entries, namespace, name);
    if (regarding !== undefined) recorder.record({ regarding, type, reason, message });
  };

  const shifter = (own: Store) =>
    new Shifter({
      store: own,
      clock,
      log,
      record: (happening) => recorder.record(happening),
      traffic: backendTraffic((namespace, name) => publisher.object("services", namespace, name), insight.traffic),
    });
  const keyFetcher = (own: Store) =>
    new KeyFetcher({
      store: own,
      clock,
      log,
      random: Math.random,
      uid: () => crypto.randomUUID(),
      fetchKeys: fetchKeysByHttps,
      record: (happening) => recorder.record(happening),
    });
  if (shared === undefined) {
    const collector = new Collector({ store, kinds, clock, log });
    undo.add(() => collector.stop());
    await collector.start();
    const shifting = shifter(store);
    undo.add(() => shifting.stop());
    const fetching = keyFetcher(store);
    undo.add(() => fetching.stop());
  }

  const lists = new RevocationLists();
  /** What the API shows, whose root may have been replaced a moment ago. */
  let shownPem = certificate.certificatePem;
  const apiRoots = () => {
    const shown = shownPem.slice(shownPem.lastIndexOf("-----BEGIN CERTIFICATE-----")).trim();
    return authority.rootPem.includes(shown) ? authority.rootPem : `${authority.rootPem}${shown}\n`;
  };
  const report = (): TrustReport => ({ id: shared?.id ?? "this", rootsPem: authority.rootPem, holders: xds.holders() });
  const rotation = new RootRotation({
    authority,
    store: authority.given ? undefined : (shared?.ca ?? folderStore(dir)),
    clock,
    log,
    own: report,
    others: async () =>
      Promise.all(
        (session?.members ?? [])
          .filter((member) => member.id !== shared?.id)
          .map(async (member): Promise<TrustReport | string> => {
            const silent = `control plane ${member.id} at ${member.apiUrl} does not answer`;
            const answer = await fetch(`${member.apiUrl}${caPrefix}/report`, {
              tls: { ca: apiRoots() },
              headers: { authorization: `Bearer ${admin.reveal()}` },
              signal: AbortSignal.timeout(2_000),
              proxy: "",
            }).catch(() => undefined);
            return answer?.ok === true ? ((await answer.json()) as TrustReport) : silent;
          }),
      ),
    known: () => (started?.objects(entries) ?? []).filter(hadProxy).map(({ metadata }) => `${metadata.namespace ?? ""}/${metadata.name}`),
    leads: () => term !== undefined,
    shared: shared !== undefined,
    onStep: (words) => event("info", `certificate authority: ${words}`),
  });
  undo.add(() => rotation.stop());
  const remembered = rememberedPorts(dir);
  const xds = await bindPort("xds", options.xdsPort, remembered.xds, listen, (port) =>
    startXdsServer(
      { host: listen, port, certificatePem: certificate.certificatePem, key: certificate.keyPem },
      {
        clock,
        log,
        authority,
        tokens,
        revoked: revocations,
        trust: () => ({
          rootsPem: authority.rootPem,
          crlPem: lists.pem(authority.issuers, revocations.list().serials, clock.now()),
          denyList: writeDenyList(revocations.list()),
        }),
        snapshots: sources,
        loads,
        limits: {
          clock,
          counters,
          policy: (namespace, name) => publisher.object(limitPolicies, namespace, name) as RateLimitPolicyObject | undefined,
          decided: (over) => {
            limitDecisions[over ? 1 : 0].value++;
          },
        },
        mayListProxies: async (authorization) => {
          const who = await authenticate(authorization, admin, tokens, users);
          const asked = { type: "resource", verb: "list", resource: "proxies.weft.dev", subresource: "", namespace: "", name: "" } as const;
          return who.ok && authorize(who.caller, asked, access).allowed;
        },
        identifier: `weft/${version}`,
        findEntry: async (namespace, name) => {
          try {
            return await store.get({ resource: entries, namespace, name });
          } catch (cause) {
            // A store that does not answer keeps no proxy out that was known before.
            const known = cause instanceof StoreFailure ? publisher.object(entries, namespace, name) : undefined;
            if (known === undefined) throw cause;
            return known;
          }
        },
        metrics: (node) => insight.metrics(node),
        accessLogs: (node) => insight.accessLogs(node),
        onCertificate: (identity, serialNumber, notAfterMs) => {
          metrics.certificates.value++;
          event(
            "info",
            `certificate ${serialNumber} issued to ${formatIdentity(identity)}, good until ${new Date(notAfterMs).toISOString()}`,
            identity.namespace,
          );
        },
        observer: {
          opened: (session) => {
            proxies.add(session);
            const { node } = session;
            if (node === undefined) return;
            liveness.connected(node.key);
            publisher.foreign(node.key, session.agent.startsWith("weft/") || session.agent === "weft" ? undefined : session.agent);
            event("info", `proxy connected (${session.agent}, ${session.mode}) from ${session.peer}`, node.namespace, node.workload);
            happened(node.key, "Normal", "ProxyConnected", `${session.agent} has connected`);
          },
          changed: ({ node, ledger }) => {
            proxies.touch();
            if (
              node === undefined ||
              publisher.object(entries, node.namespace, node.workload)?.metadata.annotations?.[annotations.gateway] === undefined
            )
              return;
            const closed = closedListenersOf(ledger);
            if (closed !== undefined) liveness.listeners(node.key, closed);
          },
          accepted: (_session, ackMs) => metrics.acknowledged(ackMs),
          sent: (_session, offer) => metrics.responses.with([offer.type]).value++,
          rejected: (session, rejection) => {
            metrics.rejections.with([rejection.type]).value++;
            const { node } = session;
            log.warn(
              { proxy: node?.key, type: rejection.type, reason: rejection.reason },
              "A proxy rejected an update; it goes on with what it had",
            );
            event(
              "warn",
              `proxy rejected ${rejection.type} ${rejection.names.join(", ")}: ${rejection.reason}`,
              node?.namespace,
              node?.workload,
            );
            happened(node?.key, "Warning", "ConfigurationRejected", `${rejection.type} ${rejection.names.join(", ")}: ${rejection.reason}`);
          },
          closed: (session) => {
            const last = proxies.remove(session);
            const { node } = session;
            if (node === undefined || !last) return;
            liveness.lost(node.key);
            publisher.foreign(node.key, undefined);
            event("info", "proxy disconnected", node.namespace, node.workload);
            happened(node.key, "Normal", "ProxyDisconnected", "the stream of its proxy ended");
          },
          unknownType: (typeUrl, agent) =>
            log.info({ typeUrl, agent, instead: insteadOf(typeUrl) }, "A proxy asked for a type that is not served here; it is left alone"),
        },
      },
    ),
  );
  undo.add(() => xds.stop());
  registry.beforeExport(() => {
    metrics.proxies.value = proxies.connected;
    metrics.behind.value = proxies.behind;
    metrics.quarantined.value = proxies.quarantined;
    metrics.waiting.value = publisher.waiting;
  });
  const xdsAddress = options.xdsAddress ?? hostPort(listen, xds.port);

  let dashboardPort = 0;
  const signIn = new SignIn(admin, () => dashboardPort);
  const dashboardUrl = () => `http://127.0.0.1:${dashboardPort}/`;
  const live = liveObjects({
    proxies,
    insight,
    mesh: () => ({
      trustDomain,
      version,
      xdsAddress,
      xdsAddresses: [xdsAddress, ...(session?.members ?? []).map((member) => member.xdsAddress).filter((each) => each !== xdsAddress)],
      caBundle: apiRoots(),
      dashboardUrl: dashboardUrl(),
      startedAtMs,
    }),
  });

  // Built once a transaction, which asks about each of its objects with the same list, and again when others have written meanwhile.
  let lastStaged: { readonly staged: readonly StagedChange[]; readonly seen: Revision; readonly world: World } | undefined;
  const stagedWorld = (staged: readonly StagedChange[]): World => {
    const { seen } = publisher;
    if (lastStaged?.staged !== staged || lastStaged.seen !== seen) {
      const changed = new Map(staged.map((change) => [`${change.key.resource}/${change.key.namespace}/${change.key.name}`, change.after]));
      lastStaged = { staged, seen, world: buildWorld(publisher.with(changed), trustDomain, publisher.world()) };
    }
    return lastStaged.world;
  };

  const sharedKeys = shared === undefined ? null : options.storeKey === undefined ? "plain" : "sealed";
  const api: ApiServer = createApiServer({
    store,
    kinds,
    admit: (candidate, _existing, staged) => admit(staged === undefined ? publisher.world() : stagedWorld(staged), candidate),
    followed: { revision: () => publisher.seen, reached: (revision) => publisher.reached(revision) },
    advise: (candidate, staged) => advise(staged === undefined ? publisher.world() : stagedWorld(staged), candidate, () => insight.edges()),
    preview: async (staged) => {
      const { effects } = await import("../compile/effects.ts");
      return effects(publisher.world(), stagedWorld(staged));
    },
    authenticate: (request) => authenticate(request.headers.get("authorization"), admin, tokens, users),
    authorize: (caller, asked) => authorize(caller, asked, access),
    onAccessChange: (run) => {
      revocations.onChange(run);
      joinTokens.onRevoked(run);
      access.onChange(run);
    },
    escalation: (...write) => escalation(access, ...write),
    // Somebody who is known and of whom no group is claimed is taken with their own.
    callerNamed: (user, groups) => callerNamed(user, groups.length > 0 ? groups : (access.user(user)?.spec?.groups ?? [])),
    groupsOf,
    builtin: builtinObjects,
    isReserved,
    issueUserToken: async ({ name, expirationSeconds }) => {
      const user = access.user(name);
      if (user === undefined) return undefined;
      const issued = await users.issue(user, expirationSeconds);
      event("info", `token issued for user ${name}`);
      return { token: issued.token.reveal(), expirationTimestamp: new Date(issued.expiresAtMs).toISOString() };
    },
    audit,
    answered: (verb, code, durationMs) => metrics.answered(verb, code, durationMs),
    limits: rateLimits(clock, { perSecond: options.apiRate ?? defaultRatePerSecond }),
    virtual: live,
    routes: [
      { prefix: caPrefix, handle: (request) => handleCa(request, { rotation, report, sharedKeys }) },
      {
        prefix: "/weft/v1alpha1/backup",
        sensitive: true,
        handle: async (request, caller, hold) => {
          if (request.method !== "GET" || new URL(request.url).pathname !== "/weft/v1alpha1/backup") return undefined;
          const { streamAndForget, writeBackup } = await import("./backup.ts");
          const path = join(dir, `.backup.${crypto.randomUUID()}`);
          const { revision } = await writeBackup(store, dir, path, { madeAt: new Date(clock.now()).toISOString(), version });
          event("info", `backup of revision ${revision} given to ${caller.user}`);
          hold();
          const { body, sizeBytes } = streamAndForget(path);
          const headers = {
            "content-type": "application/octet-stream",
            "x-weft-revision": String(revision),
            "x-weft-size": String(sizeBytes),
          };
          return new Response(body, { headers });
        },
      },
      {
        prefix: "/weft/v1alpha1/audit",
        sensitive: true,
        handle: async (request, _caller, hold) => {
          const url = new URL(request.url);
          if (request.method !== "GET" || url.pathname !== "/weft/v1alpha1/audit") return undefined;
          return (await import("./apiserver/audit-read.ts")).answerAudit(url, dir, audit, hold);
        },
      },
      {
        prefix: "/weft/v1alpha1/client-certificates",
        sensitive: true,
        handle: (request, caller) => (request.method === "POST" ? ownClients?.answer(request, caller) : undefined),
      },
      {
        prefix: "/weft/v1alpha1/profile/",
        sensitive: true,
        handle: async (request, _caller, hold) =>
          request.method === "GET" ? (await import("./profile.ts")).profile(new URL(request.url), hold) : undefined,
      },
      { prefix: "/insight/", handle: (request, _caller, hold) => insight.handle(request, hold) },
      {
        prefix: "/metrics",
        handle: (request) =>
          request.method === "GET" && new URL(request.url).pathname === "/metrics"
            ? new Response(exposition(registry), { headers: { "content-type": contentType } })
            : undefined,
      },
    ],
    issueToken: async ({ namespace, serviceAccount, expirationSeconds, bound }) => {
      const issued = await tokens.issue({ namespace, serviceAccount }, expirationSeconds, bound);
      event("info", `join token issued for service account ${serviceAccount}`, namespace);
      return { token: issued.token.reveal(), expirationTimestamp: new Date(issued.expiresAtMs).toISOString() };
    },
    bundle: () => bundleDocument(authority.rootPem),
    notReady: () => {
      if (file?.damage !== undefined) return file.damage;
      const silence = shared?.store.silence;
      if (silence === undefined || silence.forMs < notReadyAfterMs) return undefined;
      return `etcd has not answered for ${Math.round(silence.forMs / 1000)} s: ${silence.problem}`;
    },
    clock,
    random: (bytes) => {
      crypto.getRandomValues(bytes);
    },
    log,
    version,
  });
  const apiListener = await bindPort<ApiListener>("api", options.apiPort, remembered.api, listen, (port) => {
    const at = { hostname: listen, port, cert: certificate.certificatePem, key: certificate.keyPem.reveal(), after: clock.after };
    return clientCa === undefined ? listenApi(api, at) : listenWithCertificates(api, { ...at, clientCa, nowMs: () => clock.now() });
  });
  undo.add(() => apiListener.stop());

  const handler = dashboardHandler({
    api,
    signIn,
    nowMs: () => clock.now(),
    log,
    load: async () => {
      const { contentSecurityPolicy, loadDashboard } = await import("./dashboard/assets.ts");
      return { find: await loadDashboard(), contentSecurityPolicy };
    },
  });
  const dashboard = await bindPort("dashboard", options.dashboardPort, remembered.dashboard, "127.0.0.1", (port) =>
    listenDashboard("127.0.0.1", port, handler),
  );
  undo.add(() => dashboard.stop());
  dashboardPort = dashboard.port;

  const ports: Ports = { api: apiListener.port, xds: xds.port, dashboard: dashboard.port };
  rememberPorts(dir, ports);
  const apiUrl = `https://${hostPort(reachable(listen), apiListener.port)}`;
  if (options.joinSocket !== undefined) {
    const { openJoinSocket, parseJoinRules, readPasswd } = await import("./identity/join-socket.ts");
    const { openPeerCredentials } = await import("./identity/peer-credentials.ts");
    const joining = openJoinSocket({
      path: resolve(options.joinSocket),
      rules: options.joinUsers === undefined ? [] : parseJoinRules(options.joinUsers, readPasswd),
      ownUid: process.getuid?.() ?? 0,
      clock,
      log,
      credentials: openPeerCredentials(),
      issue: async (account) => {
        const issued = await tokens.issue(account, tokenLifeSeconds.default);
        return { token: issued.token.reveal(), expiresAt: new Date(issued.expiresAtMs).toISOString() };
      },
      access: () => ({ server: apiUrl, caBundle: apiRoots() }),
      onJoined: ({ namespace, serviceAccount }, { uid, pid }) =>
        event("info", `join token for service account ${serviceAccount} given to user ${uid} of this machine (process ${pid})`, namespace),
    });
    undo.add(() => joining.stop());
  }
  const kubeconfigPath = join(dir, "admin.kubeconfig");
  const writeKubeconfig = () => writeFileAtomic(kubeconfigPath, adminKubeconfig(apiUrl, apiRoots(), admin), privateMode);
  writeKubeconfig();
  const takeCertificate = async (): Promise<void> => {
    const next = await authority.serverCertificate(names);
    const renewed = next.certificatePem !== certificate.certificatePem;
    certificate = next;
    // The roots that clients' certificates are checked against go with the server's own.
    xds.updateCertificate(next.certificatePem, next.keyPem);
    if (!renewed) return;
    try {
      await apiListener.replaceCertificate(next.certificatePem, next.keyPem.reveal());
      shownPem = next.certificatePem;
      writeKubeconfig();
      event("info", "the control plane shows a new certificate of its own");
    } catch (cause) {
      log.warn({ cause }, "The API goes on with the certificate that it has until the next start; xDS has the new one");
    }
  };
  const notTaken = (cause: unknown) => log.error({ cause }, "The control plane's own certificate could not be renewed");
  undo.add(
    authority.onChange(() => {
      writeKubeconfig();
      takeCertificate()
        .finally(() => xds.trustChanged())
        .catch(notTaken);
    }),
  );
  revocations.onChange(() => xds.trustChanged());
  joinTokens.onRevoked(() => xds.recheck());
  // Lists for others are signed anew each day.
  const listing = clock.every(certificateCheckMs, () => xds.trustChanged());
  undo.add(() => listing.cancel());

  const renewal = clock.every(certificateCheckMs, () => {
    takeCertificate().catch(notTaken);
  });
  undo.add(() => renewal.cancel());
  if (shared !== undefined) {
    const { Session } = await import("./lease/session.ts");
    const { startTrimming } = await import("./lease/trim.ts");
    const leads = registry
      .gauge("weft_control_leader", "Whether this control plane does the singleton work (1) or another one (0).")
      .with([]);
    const silent = registry
      .gauge("weft_control_store_silent_seconds", "Since when the shared store has not answered; 0 while it does.")
      .with([]);
    registry.beforeExport(() => {
      leads.value = term === undefined ? 0 : 1;
      silent.value = shared.store.silence.forMs / 1000;
    });
    const duties: (() => unknown)[] = [];
    session = new Session({
      store: shared.store,
      clock,
      random: Math.random,
      log,
      id: shared.id,
      onMembers: (members) => {
        counters.planes = Math.max(1, members.length);
      },
      usage: {
        tell: () => {
          const told = counters.planes > 1 ? counters.tell(clock.now()) : undefined;
          return told === undefined ? undefined : JSON.stringify(told);
        },
        hear: (id, text) => {
          const told = parseTold(text);
          if (told !== undefined) counters.hear(id, told, clock.now());
        },
      },
      begin: (fenced, fence) => {
        term = fenced;
        shared.lease.held = fence;
        const collector = new Collector({ store: fenced, kinds, clock, log });
        collector.start().catch((cause: unknown) => log.error({ cause }, "Garbage collection could not begin"));
        const trimming = startTrimming(fenced, clock, log, historyKept);
        const shifting = shifter(fenced);
        const fetching = keyFetcher(fenced);
        const adopting = clock.every(adoptEveryMs, () => liveness.adopt(publisher.objects(entries)));
        duties.push(
          () => collector.stop(),
          () => trimming.cancel(),
          () => shifting.stop(),
          () => fetching.stop(),
          () => adopting.cancel(),
        );
        event("info", `control plane ${shared.id} does the singleton work`);
      },
      end: async () => {
        term = undefined;
        shared.lease.held = undefined;
        await Promise.all(duties.splice(0).map((stop) => stop()));
      },
    });
    const joined = session;
    undo.add(() => joined.stop());
    const { watchStore } = await import("./lease/elsewhere.ts");
    const looking = watchStore({
      clock,
      log,
      silentMs: () => shared.store.silence.forMs,
      others: () => joined.members.filter((member) => member.id !== shared.id),
      isReady: async (member) => {
        const answer = await fetch(`${member.apiUrl}/readyz`, {
          tls: { ca: apiRoots() },
          headers: { authorization: `Bearer ${admin.reveal()}` },
          signal: AbortSignal.timeout(1_000),
          proxy: "",
        });
        return answer.ok;
      },
      shed: (reason) => xds.shed(reason),
    });
    undo.add(() => looking.cancel());
    await session.start({ id: shared.id, xdsAddress, apiUrl, version });
  }
  event("info", `control plane ${version} started, trust domain ${trustDomain}`);

  return {
    apiUrl,
    xdsAddress,
    dashboardUrl: `${dashboardUrl()}?token=${signIn.linkToken}`,
    kubeconfigPath,
    trustDomain,
    created: authority.created || shared?.created === true,
    stop: () => undo.run(log),
  };
}

/** What goes by itself is never rolled back, and does not use up the history of what can be. */
const historyKept = { transient: new Set(kinds.filter(({ transient }) => transient === true).map(resourceOf)) };

interface Shared {
  readonly store: EtcdStore;
  readonly id: string;
  readonly ca: CaStore;
  /** What proves that singleton work is this control plane's. */
  readonly lease: { held: Fence | undefined };
  /** What the authority has become by being opened here is so for all. */
  opened(authority: Authority, before: CaFiles | undefined): Promise<void>;
  /** The mesh was made by this start. */
  readonly created: boolean;
}

/** The store in etcd, and the keys in the folder that all control planes on it share; undefined with SQLite. */
async function openShared(
  options: ControlPlaneOptions,
  dir: string,
  clock: Clock,
  log: Logger,
  undo: Undo,
  passphrase: Secret | undefined,
): Promise<Shared | undefined> {
  if (options.store?.kind !== "etcd") return undefined;
  const { openEtcdStore } = await import("./store/etcd/store.ts");
  const { readSealKey, shareFiles, sharedCaStore, shareRoots } = await import("./lease/secrets.ts");
  const sealKey = readSealKey(options.storeKey);
  const store = await openEtcdStore(options.store.address, {
    clock,
    onError: (cause) => log.error({ cause }, "The store reports a failure"),
    onLost: (why) => options.onLost?.(why),
    ...(options.etcdRequestBytes !== undefined && { maxRequestBytes: options.etcdRequestBytes }),
  });
  undo.add(() => store.close());
  const created = await shareFiles(store.rows, dir, sealKey, async (folder) => {
    const trustDomain = options.trustDomain;
    const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
    await openAuthority({ dir: folder, trustDomain, clock, random, given: options.caFiles, passphrase });
    openSigningKey(folder);
    openAdminToken(folder);
  });
  // Not before: keys that are sealed have refused this start by now.
  if (sealKey === undefined)
    log.warn({}, "The mesh's keys stand in etcd as they are: whoever reads it can issue identities. Seal them with --store-key FILE");
  const lease: Shared["lease"] = { held: undefined };
  const ca = sharedCaStore(store.rows, dir, sealKey, () => lease.held);
  return {
    store,
    id: crypto.randomUUID().slice(0, 8),
    created,
    ca,
    lease,
    async opened(authority, before) {
      if (authority.given) await shareRoots(store.rows, sealKey, authority.rootPem);
      // Encrypted by this start, or a root's replacement that was cut short is at its end now.
      else if (before !== undefined && authority.files !== undefined && !sameFiles(before, authority.files)) {
        if (!(await ca.replace(before, authority.files))) authority.adopt(await ca.read());
      }
    },
  };
}

function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** "All addresses" is no address to connect to. */
function reachable(listen: string): string {
  return listen === "0.0.0.0" || listen === "::" ? "127.0.0.1" : listen;
}

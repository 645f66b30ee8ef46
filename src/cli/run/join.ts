// Owns: finding the control plane at the start: credential, namespace, service account, mesh facts, join token. Waits with words when it is away.

import type { MeshObject } from "../../api/live.ts";
import { ApiFailure, Client, Unreachable } from "../client.ts";
import { CliFailure, reasonOf } from "../failure.ts";
import { type Access, joinClaims, NoKubeconfig, readAccess } from "../kubeconfig.ts";
import { requestToken } from "../token.ts";
import { readGroup, type Template } from "./group.ts";
import type { Remembered } from "./memory.ts";
import type { Plan } from "./plan.ts";
import type { Say } from "./say.ts";

export interface Joined {
  readonly access: Access;
  readonly client: Client;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** See `Who`. */
  readonly asked: string;
  readonly mesh: { readonly trustDomain: string; readonly xdsAddress: string; readonly caBundle: string };
  /** The control plane is away; this is what the last run of the instance has kept. */
  readonly last: Remembered | undefined;
  /** Of the WorkloadGroup, if one is asked for. */
  readonly template: Template | undefined;
  /** A token for the sidecar: fresh with the administrator's credential, the given one with a join credential. */
  token(): Promise<string>;
}

/** What of a plan says who joins. */
type Asked = Pick<Plan, "waitMs" | "namespace" | "serviceAccount" | "service"> & Partial<Pick<Plan, "control" | "group">>;

const tokenSeconds = 3600;

/**
 * `instead`: asked once, when the control plane turns out to be away and the kubeconfig could be read; what it answers is taken at once.
 */
export async function join(
  plan: Asked,
  file: string,
  say: Say,
  nowMs: () => number,
  stop: AbortSignal,
  instead: (who: Who) => Joined | undefined = () => undefined,
): Promise<Joined> {
  const end = nowMs() + plan.waitMs;
  let told = false;
  let asked = false;
  for (let delayMs = 50; ; delayMs = Math.min(1000, delayMs * 1.5)) {
    try {
      return await joinOnce(plan, file, nowMs);
    } catch (error) {
      const away =
        error instanceof NoKubeconfig ||
        (error instanceof Unreachable && error.retryable) ||
        (error instanceof ApiFailure && error.code >= 500);
      if (!away) throw error;
      if (!asked && !(error instanceof NoKubeconfig)) {
        asked = true;
        const found = instead(whoIs(plan, file, nowMs));
        if (found !== undefined) {
          say.warn(
            `${reasonOf(error)}\nstarting from what the last run of this instance has kept; it is registered when the control plane is back`,
          );
          return found;
        }
      }
      const left = end - nowMs();
      if (left <= 0 || stop.aborted) {
        throw new CliFailure(`${reasonOf(error)}\ngave up after ${Math.round(plan.waitMs / 1000)} s (--wait); COMMAND was not started`);
      }
      if (!told) say.info(`${reasonOf(error)}\nwaiting for it, up to ${Math.ceil(left / 1000)} s`);
      told = true;
    }
    await Bun.sleep(delayMs);
    if (stop.aborted) throw new CliFailure("stopped before the control plane was there; COMMAND was not started");
  }
}

/** What the kubeconfig alone says. */
export interface Who {
  readonly access: Access;
  readonly client: Client;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The service account that flags or the credential say, whatever a WorkloadGroup does. */
  readonly asked: string;
  /** See `Joined`. */
  token(): Promise<string>;
  /** The same as another service account, which a WorkloadGroup says. Throws where the credential is for one alone. */
  as(serviceAccount: string): Who;
}

function whoIs(plan: Asked, file: string, nowMs: () => number): Who {
  const access = readAccess(file);
  const client = new Client(access);
  if (access.token === undefined) throw new CliFailure(`the kubeconfig ${file} holds no token`);
  const claims = joinClaims(access.token);
  if (claims !== undefined) {
    contradiction("--namespace", plan.namespace, claims.namespace, file);
    contradiction("--service-account", plan.serviceAccount, claims.serviceAccount, file);
    if (claims.expiresAt !== undefined && claims.expiresAt <= nowMs()) {
      throw new CliFailure(
        `the join credential in ${file} ended at ${new Date(claims.expiresAt).toISOString()}; make a new one with: weft kubeconfig --service-account ${claims.serviceAccount} -n ${claims.namespace}`,
      );
    }
  }
  const namespace = claims?.namespace ?? plan.namespace ?? access.namespace;
  const serviceAccount = claims?.serviceAccount ?? plan.serviceAccount ?? plan.service;
  const fixed = claims === undefined ? undefined : (access.token as string);
  const running = (as: string): Who => ({
    access,
    client,
    namespace,
    serviceAccount: as,
    asked: serviceAccount,
    token: async () => fixed ?? (await requestToken(client, namespace, as, tokenSeconds)).token,
    as(other) {
      if (claims !== undefined) contradiction(`template.serviceAccount of WorkloadGroup ${plan.group}`, other, claims.serviceAccount, file);
      return running(other);
    },
  });
  return running(serviceAccount);
}

async function joinOnce(plan: Asked, file: string, nowMs: () => number): Promise<Joined> {
  const who = whoIs(plan, file, nowMs);
  const [mesh, template] = await Promise.all([
    who.client.json<MeshObject>("/apis/weft.dev/v1alpha1/meshes/default", { timeoutMs: 5000 }),
    plan.group === undefined ? undefined : readGroup(who.client, who.namespace, plan.group),
  ]);
  const { trustDomain } = mesh.spec;
  const said = mesh.status.xdsAddresses ?? [mesh.status.xdsAddress];
  const xdsAddress = plan.control ?? [...new Set(said.map((address) => reachable(address, who.access)))].join(",");
  const own = plan.serviceAccount !== undefined || template?.serviceAccount === undefined ? who : who.as(template.serviceAccount);
  return { ...own, mesh: { trustDomain, xdsAddress, caBundle: mesh.status.caBundle }, last: undefined, template };
}

/** A control plane on another machine knows itself by an address that may mean nothing here: the host that answered the API is the one. */
function reachable(said: string, access: Access): string {
  const at = said.lastIndexOf(":");
  const host = said.slice(0, at).replace(/^\[|\]$/g, "");
  const apiHost = new URL(access.server).hostname.replace(/^\[|\]$/g, "");
  const local = host === "127.0.0.1" || host === "::1" || host === "localhost" || host === "0.0.0.0" || host === "::";
  if (!local || apiHost === host) return said;
  const shown = apiHost.includes(":") ? `[${apiHost}]` : apiHost;
  return `${shown}:${said.slice(at + 1)}`;
}

function contradiction(flag: string, asked: string | undefined, given: string, file: string): void {
  if (asked === undefined || asked === given) return;
  throw new CliFailure(
    `${flag} says "${asked}", but the join credential in ${file} is for "${given}"; ${flag.startsWith("--") ? "leave the flag out" : "say another there"} or make another credential`,
  );
}

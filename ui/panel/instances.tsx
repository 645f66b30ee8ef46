// Owns: the list of a service's instances with what their proxies say: connected, in step with the control plane, last rejection.

import type { ReactNode } from "react";
import type { ProxyObject } from "../../src/api/live.ts";
import { HealthIcon } from "../chrome/icons.tsx";
import { clockTime } from "../model/format.ts";
import type { Health } from "../model/health.ts";
import type { Instance } from "../model/related.ts";

export function Instances({ instances }: { instances: readonly Instance[] | null }): ReactNode {
  return (
    <section aria-label="Instances">
      <h3>Instances {instances !== null && instances.length > 0 && <small>{instances.length}</small>}</h3>
      {instances === null ? (
        <p className="quiet">Reading…</p>
      ) : instances.length === 0 ? (
        <p className="quiet">No instance is registered.</p>
      ) : (
        <ul className="instances">
          {instances.map((instance) => (
            <Row key={instance.name} instance={instance} />
          ))}
        </ul>
      )}
    </section>
  );
}

function Row({ instance }: { instance: Instance }): ReactNode {
  const { proxy } = instance;
  const state = proxyState(proxy);
  const health: Health = !instance.ready ? "bad" : state.health;
  const rejection = proxy?.status.lastRejection ?? null;
  return (
    <li>
      <p>
        <HealthIcon health={health} />
        <b>{instance.name}</b>
        {instance.version !== "" && <span className="chip">{instance.version}</span>}
        <span className={`state ${health}`}>{instance.ready ? state.words : `not ready: ${instance.reason}`}</span>
      </p>
      <p className="soft">
        {[proxy?.status.agent, proxy?.status.address || instance.address, instance.ready ? "" : state.words]
          .filter((word) => word !== undefined && word !== "")
          .join(" · ")}
      </p>
      {proxy !== null && proxy.status.identity !== "" && <p className="soft mono">{proxy.status.identity}</p>}
      {rejection !== null && (
        <p className="problem">
          Rejected {rejection.type} {rejection.version} at {clockTime(Date.parse(rejection.at))}: {rejection.reason}
        </p>
      )}
    </li>
  );
}

/** How far the proxy is with what was sent to it. */
export function proxyState(proxy: ProxyObject | null): { health: Health; words: string } {
  if (proxy === null) return { health: "idle", words: "no proxy seen" };
  const { connected, synced, lastRejection, types } = proxy.status;
  if (!connected) return { health: "warn", words: "proxy not connected" };
  if (synced) return { health: "good", words: "in sync" };
  const behind = Object.entries(types).flatMap(([type, status]) => (status.accepted === status.sent ? [] : [type]));
  const what = behind.length > 0 ? ` (${behind.join(", ")})` : "";
  return { health: "warn", words: lastRejection === null ? `catching up${what}` : `rejected an update${what}` };
}

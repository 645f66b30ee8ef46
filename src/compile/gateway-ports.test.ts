// What Gateways are told of ports that their processes do not have open, and of listeners that lead nowhere.

import { expect, test } from "bun:test";
import { closedConditions } from "../api/kinds/closed-listeners.ts";
import type { Condition, KubeObject } from "../api/meta.ts";
import { annotations } from "../wire/names.ts";
import { MeshCompiler } from "./compile.ts";
import { objectsOf } from "./testing/objects.ts";

const gateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: weft
  listeners: [{name: web, port: 80, protocol: HTTP}, {name: raw, port: 81, protocol: TCP}, {name: dns, port: 80, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: lines, namespace: shop}
spec: {selector: {app: lines}, ports: [{name: tcp, port: 81}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: raw, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: raw}], rules: [{backendRefs: [{name: lines, port: 81}]}]}
`;

function processOf(name: string, healthy: boolean, closed: Parameters<typeof closedConditions>[0] = []): KubeObject {
  const at = "2026-01-01T00:00:00Z";
  const health: Condition = { type: "Healthy", status: healthy ? "True" : "False", reason: "Running", message: "", lastTransitionTime: at };
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: { name, namespace: "shop", annotations: { [annotations.gateway]: "edge", [annotations.health]: "reported" } },
    spec: { address: "10.0.0.1" },
    status: { conditions: [health, ...closedConditions(closed, at)] },
  } as KubeObject;
}

const taken = { port: 80, transport: "tcp", reason: "NotOpen", words: "10.0.0.1:80 is in use by another process" } as const;

function told(compiler: MeshCompiler): Record<string, string> {
  const [object] = objectsOf(gateway);
  const status = statusOf(compiler, object as KubeObject);
  const words = (list: readonly Condition[]) => {
    const own = list.find(({ type }) => type === "Programmed");
    return `${own?.status} ${own?.reason}: ${own?.message}`;
  };
  return { whole: words(status.conditions), ...Object.fromEntries(status.listeners.map((each) => [each.name, words(each.conditions)])) };
}

function statusOf(compiler: MeshCompiler, object: KubeObject) {
  return compiler.status(object)?.status as { conditions: Condition[]; listeners: { name: string; conditions: Condition[] }[] };
}

test("a port that no process has open is not programmed, one that some have is, and says who has not; open again, it is", () => {
  const compiler = new MeshCompiler("cluster.local");
  for (const object of objectsOf(gateway)) compiler.put(object);
  expect(told(compiler).web).toBe("False Pending: no process serves the Gateway");
  // A process that can open nothing is not healthy, and yet has the reason.
  compiler.put(processOf("edge-a", false, [taken]));
  expect(told(compiler)).toEqual({
    whole: "True Programmed: its processes have the listeners",
    web: "False Invalid: no process has port 80 open; edge-a says: 10.0.0.1:80 is in use by another process",
    raw: "True Programmed: in the configuration of the Gateway's processes",
    dns: "False Pending: no UDPRoute that leads somewhere is attached: port 80 takes nothing for this listener until one is",
  });
  compiler.put(processOf("edge-a", false, [taken, { ...taken, port: 81 }]));
  expect(told(compiler).whole).toBe("False Invalid: no process has port 80 open; edge-a says: 10.0.0.1:80 is in use by another process");
  compiler.put(processOf("edge-b", true));
  expect(told(compiler).web).toBe("True Programmed: in force at 1 of 2 processes; edge-a says: 10.0.0.1:80 is in use by another process");
  compiler.put(processOf("edge-b", true, [{ ...taken, reason: "Outdated", words: "the certificate cannot be read" }]));
  compiler.remove(processOf("edge-a", false));
  expect(told(compiler).web).toBe(
    "True Programmed: in force at 0 of 1 processes; edge-b says: the certificate cannot be read and goes on with what it had",
  );
  compiler.put(processOf("edge-b", true));
  expect(told(compiler).web).toBe("True Programmed: in the configuration of the Gateway's processes");
});

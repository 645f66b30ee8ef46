// Owns: v1 Event: something that happened to an object, as `kubectl describe` and `kubectl get events` show it. Kept for a while only.

import { defineKind, textColumn } from "../define.ts";
import type { Column, KubeObject } from "../meta.ts";
import type { Schema } from "../schema.ts";

export interface EventReference {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly fieldPath?: string;
}

export interface EventObject extends KubeObject {
  involvedObject: EventReference;
  reason?: string;
  message?: string;
  type?: string;
  count?: number;
  firstTimestamp?: string;
  lastTimestamp?: string;
  eventTime?: string;
  source?: { component?: string; host?: string };
  reportingComponent?: string;
}

const text: Schema = { type: "string" };
const reference: Schema = {
  type: "object",
  properties: { apiVersion: text, kind: text, namespace: text, name: text, uid: text, resourceVersion: text, fieldPath: text },
};

const event = (object: KubeObject) => object as EventObject;
const about = (object: KubeObject): EventReference => event(object).involvedObject ?? {};

/** When it happened last, in whichever of the fields its reporter fills. */
export function lastSeen(object: KubeObject): string {
  const { lastTimestamp, eventTime, firstTimestamp, metadata } = event(object);
  return lastTimestamp ?? eventTime ?? firstTimestamp ?? metadata.creationTimestamp ?? "";
}

const time = (name: string, description: string, value: Column["value"], priority: 0 | 1 = 0): Column => ({
  name,
  type: "date",
  description,
  priority,
  value,
});

export const eventKind = defineKind({
  group: "",
  versions: ["v1"],
  kind: "Event",
  plural: "events",
  shortNames: ["ev"],
  namespaced: true,
  hasStatus: false,
  transient: true,
  requiredFields: ["involvedObject"],
  fields: {
    involvedObject: reference,
    related: reference,
    reason: { type: "string", maxLength: 128 },
    message: { type: "string", maxLength: 1024 },
    type: { type: "string", enum: ["Normal", "Warning"] },
    action: { type: "string", maxLength: 128 },
    count: { type: "integer", minimum: 0 },
    firstTimestamp: text,
    lastTimestamp: text,
    eventTime: text,
    series: { type: "object", properties: { count: { type: "integer" }, lastObservedTime: text } },
    source: { type: "object", properties: { component: text, host: text } },
    reportingComponent: text,
    reportingInstance: { type: "string", maxLength: 128 },
  },
  selectableFields: {
    "involvedObject.apiVersion": (object) => about(object).apiVersion ?? "",
    "involvedObject.fieldPath": (object) => about(object).fieldPath ?? "",
    "involvedObject.kind": (object) => about(object).kind ?? "",
    "involvedObject.name": (object) => about(object).name ?? "",
    "involvedObject.namespace": (object) => about(object).namespace ?? "",
    "involvedObject.resourceVersion": (object) => about(object).resourceVersion ?? "",
    "involvedObject.uid": (object) => about(object).uid ?? "",
    reason: (object) => event(object).reason ?? "",
    reportingComponent: (object) => event(object).reportingComponent ?? "",
    source: (object) => event(object).source?.component ?? event(object).reportingComponent ?? "",
    type: (object) => event(object).type ?? "",
  },
  notes: [
    "Forgotten an hour after it was seen last; the oldest go first when there are more than 2000.",
    "The control plane records `ProxyConnected`, `ProxyDisconnected` and `ConfigurationRejected` (with the proxy's reason) on the WorkloadEntry.",
    "An event that happens again is counted, not told again.",
  ],
  columns: [
    time("Last Seen", "Time since it happened last.", lastSeen),
    textColumn("Type", "Normal or Warning.", (object) => event(object).type ?? ""),
    textColumn("Reason", "One word for what happened.", (object) => event(object).reason ?? ""),
    textColumn("Object", "What it happened to.", (object) => `${(about(object).kind ?? "").toLowerCase()}/${about(object).name ?? ""}`),
    textColumn("Subobject", "Which part of it.", (object) => about(object).fieldPath ?? "", 1),
    textColumn("Source", "Who says so.", (object) => event(object).source?.component ?? event(object).reportingComponent ?? "", 1),
    textColumn("Message", "What happened, in words.", (object) => (event(object).message ?? "").trim()),
    time("First Seen", "Time since it happened first.", (object) => event(object).firstTimestamp ?? event(object).eventTime ?? "", 1),
    { name: "Count", type: "integer", description: "How often.", priority: 1, value: (object) => event(object).count ?? 1 },
    textColumn("Name", "Of the event.", (object) => object.metadata.name, 1),
  ],
});

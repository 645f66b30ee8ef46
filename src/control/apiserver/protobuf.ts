// Owns: request bodies in Kubernetes' protobuf form, which the typed commands of kubectl (create namespace, configmap, secret, service, token,
// auth can-i) send since 1.32 without being asked, and which controller-runtime sends for the kinds that Kubernetes has itself. Decoded to what the same object is in JSON.
// Never written: every client that sends it also takes JSON. A field that is not in the tables is refused, never dropped.
// Field numbers: generated.proto of k8s.io/api and k8s.io/apimachinery.

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { badRequest, unsupportedMediaType } from "./status.ts";

/** `flag`: a bool that Go writes only where it is set, so that false says something. `bytes-map`: base64 in JSON. */
type Scalar = "string" | "int" | "bool" | "flag" | "time" | "micro-time" | "int-or-string" | "dropped";
type Field =
  | readonly [name: string, type: Scalar | "strings" | "map" | "bytes-map" | Message]
  | readonly [name: string, type: Message, repeated: true];
interface Message {
  readonly [number: number]: Field;
}

const metadata: Message = {
  1: ["name", "string"],
  2: ["generateName", "string"],
  3: ["namespace", "string"],
  4: ["selfLink", "string"],
  5: ["uid", "string"],
  6: ["resourceVersion", "string"],
  7: ["generation", "int"],
  8: ["creationTimestamp", "time"],
  9: ["deletionTimestamp", "time"],
  10: ["deletionGracePeriodSeconds", "int"],
  11: ["labels", "map"],
  12: ["annotations", "map"],
  13: [
    "ownerReferences",
    {
      1: ["kind", "string"],
      3: ["name", "string"],
      4: ["uid", "string"],
      5: ["apiVersion", "string"],
      6: ["controller", "bool"],
      7: ["blockOwnerDeletion", "bool"],
    },
    true,
  ],
  14: ["finalizers", "strings"],
  17: ["managedFields", "dropped"],
};

const servicePort: Message = {
  1: ["name", "string"],
  2: ["protocol", "string"],
  3: ["port", "int"],
  4: ["targetPort", "int-or-string"],
  5: ["nodePort", "int"],
  6: ["appProtocol", "string"],
};

const serviceSpec: Message = {
  1: ["ports", servicePort, true],
  2: ["selector", "map"],
  3: ["clusterIP", "string"],
  4: ["type", "string"],
  5: ["externalIPs", "strings"],
  7: ["sessionAffinity", "string"],
  8: ["loadBalancerIP", "string"],
  9: ["loadBalancerSourceRanges", "strings"],
  10: ["externalName", "string"],
  11: ["externalTrafficPolicy", "string"],
  12: ["healthCheckNodePort", "int"],
  13: ["publishNotReadyAddresses", "bool"],
  17: ["ipFamilyPolicy", "string"],
  18: ["clusterIPs", "strings"],
  19: ["ipFamilies", "strings"],
  21: ["loadBalancerClass", "string"],
  22: ["internalTrafficPolicy", "string"],
  23: ["trafficDistribution", "string"],
};

const resourceAttributes: Message = {
  1: ["namespace", "string"],
  2: ["verb", "string"],
  3: ["group", "string"],
  4: ["version", "string"],
  5: ["resource", "string"],
  6: ["subresource", "string"],
  7: ["name", "string"],
};

const boundObject: Message = { 1: ["kind", "string"], 2: ["apiVersion", "string"], 3: ["name", "string"], 4: ["uid", "string"] };

const objectReference: Message = {
  1: ["kind", "string"],
  2: ["namespace", "string"],
  3: ["name", "string"],
  4: ["uid", "string"],
  5: ["apiVersion", "string"],
  6: ["resourceVersion", "string"],
  7: ["fieldPath", "string"],
};

const event: Message = {
  1: ["metadata", metadata],
  2: ["involvedObject", objectReference],
  3: ["reason", "string"],
  4: ["message", "string"],
  5: ["source", { 1: ["component", "string"], 2: ["host", "string"] }],
  6: ["firstTimestamp", "time"],
  7: ["lastTimestamp", "time"],
  8: ["count", "int"],
  9: ["type", "string"],
  10: ["eventTime", "micro-time"],
  11: ["series", { 1: ["count", "int"], 2: ["lastObservedTime", "micro-time"] }],
  12: ["action", "string"],
  13: ["related", objectReference],
  14: ["reportingComponent", "string"],
  15: ["reportingInstance", "string"],
};

const endpoint: Message = {
  1: ["addresses", "strings"],
  2: ["conditions", { 1: ["ready", "flag"], 2: ["serving", "flag"], 3: ["terminating", "flag"] }],
  3: ["hostname", "string"],
  4: ["targetRef", objectReference],
  5: ["deprecatedTopology", "map"],
  6: ["nodeName", "string"],
  7: ["zone", "string"],
  8: ["hints", { 1: ["forZones", { 1: ["name", "string"] }, true], 2: ["forNodes", { 1: ["name", "string"] }, true] }],
};

const endpointPort: Message = { 1: ["name", "string"], 2: ["protocol", "string"], 3: ["port", "int"], 4: ["appProtocol", "string"] };

const rules: Field = [
  "rules",
  {
    1: ["verbs", "strings"],
    2: ["apiGroups", "strings"],
    3: ["resources", "strings"],
    4: ["resourceNames", "strings"],
    5: ["nonResourceURLs", "strings"],
  },
  true,
];
const subjects: Field = [
  "subjects",
  { 1: ["kind", "string"], 2: ["apiGroup", "string"], 3: ["name", "string"], 4: ["namespace", "string"] },
  true,
];
const roleRef: Field = ["roleRef", { 1: ["apiGroup", "string"], 2: ["kind", "string"], 3: ["name", "string"] }];
const bindingMessage: Message = { 1: ["metadata", metadata], 2: subjects, 3: roleRef };

// A `status` in a request is written through JSON only, and is empty in these.
const kinds: Readonly<Record<string, Message>> = {
  Namespace: { 1: ["metadata", metadata], 2: ["spec", { 1: ["finalizers", "strings"] }], 3: ["status", "dropped"] },
  Service: { 1: ["metadata", metadata], 2: ["spec", serviceSpec], 3: ["status", "dropped"] },
  ConfigMap: { 1: ["metadata", metadata], 2: ["data", "map"], 3: ["binaryData", "bytes-map"], 4: ["immutable", "flag"] },
  Secret: {
    1: ["metadata", metadata],
    2: ["data", "bytes-map"],
    3: ["type", "string"],
    4: ["stringData", "map"],
    5: ["immutable", "flag"],
  },
  Event: event,
  Lease: {
    1: ["metadata", metadata],
    2: [
      "spec",
      {
        1: ["holderIdentity", "string"],
        2: ["leaseDurationSeconds", "int"],
        3: ["acquireTime", "micro-time"],
        4: ["renewTime", "micro-time"],
        5: ["leaseTransitions", "int"],
        6: ["strategy", "string"],
        7: ["preferredHolder", "string"],
      },
    ],
  },
  EndpointSlice: {
    1: ["metadata", metadata],
    2: ["endpoints", endpoint, true],
    3: ["ports", endpointPort, true],
    4: ["addressType", "string"],
  },
  Role: { 1: ["metadata", metadata], 2: rules },
  ClusterRole: { 1: ["metadata", metadata], 2: rules },
  RoleBinding: bindingMessage,
  ClusterRoleBinding: bindingMessage,
  TokenRequest: {
    1: ["metadata", metadata],
    2: ["spec", { 1: ["audiences", "strings"], 3: ["boundObjectRef", boundObject], 4: ["expirationSeconds", "int"] }],
    3: ["status", "dropped"],
  },
  SelfSubjectAccessReview: {
    1: ["metadata", metadata],
    2: [
      "spec",
      { 1: ["resourceAttributes", resourceAttributes], 2: ["nonResourceAttributes", { 1: ["path", "string"], 2: ["verb", "string"] }] },
    ],
    3: ["status", "dropped"],
  },
  SelfSubjectRulesReview: { 1: ["metadata", metadata], 2: ["spec", { 1: ["namespace", "string"] }], 3: ["status", "dropped"] },
  TokenReview: {
    1: ["metadata", metadata],
    2: ["spec", { 1: ["token", "string"], 2: ["audiences", "strings"] }],
    3: ["status", "dropped"],
  },
  SelfSubjectReview: { 1: ["metadata", metadata], 2: ["status", "dropped"] },
  DeleteOptions: {
    1: ["gracePeriodSeconds", "int"],
    2: ["preconditions", { 1: ["uid", "string"], 2: ["resourceVersion", "string"] }],
    3: ["orphanDependents", "bool"],
    4: ["propagationPolicy", "string"],
    5: ["dryRun", "strings"],
  },
};

// runtime.Unknown: typeMeta = 1 {apiVersion = 1, kind = 2}, raw = 2, contentEncoding = 3, contentType = 4.
const magic = Buffer.from("k8s\u0000");

/** Throws 400 for what is malformed, 415 for a kind or field that is read as JSON only. */
export function decodeProtobuf(bytes: Uint8Array): Record<string, unknown> {
  if (bytes.length === 0) return {};
  if (bytes.length < 4 || !magic.equals(bytes.subarray(0, 4))) throw badRequest("the body does not begin like Kubernetes protobuf");
  try {
    let type: Record<string, unknown> = {};
    let raw: Uint8Array = new Uint8Array();
    const envelope = new BinaryReader(bytes.subarray(4));
    while (envelope.pos < envelope.len) {
      const [number, wire] = envelope.tag();
      if (number === 1) type = decode(envelope.bytes(), { 1: ["apiVersion", "string"], 2: ["kind", "string"] }, "typeMeta");
      else if (number === 2) raw = envelope.bytes();
      else envelope.skip(wire, number);
    }
    const message = kinds[String(type.kind)];
    if (message === undefined) throw unsupportedMediaType(`${String(type.kind)} is not read as protobuf here; send application/json`);
    return { ...type, ...decode(raw, message, "") };
  } catch (error) {
    // The reader's own errors, of a truncated or garbled message.
    if (error instanceof RangeError || (error instanceof Error && error.name === "Error"))
      throw badRequest(`the body is not valid protobuf: ${error.message}`);
    throw error;
  }
}

function decode(bytes: Uint8Array, message: Message, path: string): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    const field = message[number];
    if (field === undefined)
      throw unsupportedMediaType(
        `protobuf field ${number} of ${path === "" ? "the object" : path} is not read here; send application/json`,
      );
    const [name, type, repeated] = field;
    const below = path === "" ? name : `${path}.${name}`;
    if (type === "dropped") {
      reader.skip(wire, number);
      continue;
    }
    const wanted = type === "int" || type === "bool" || type === "flag" ? WireType.Varint : WireType.LengthDelimited;
    if (wire !== wanted) throw badRequest(`the body is not valid protobuf: ${below} has wire type ${wire}`);
    const value = read(reader, type, below);
    if (type === "strings" || repeated === true) out[name] = [...((out[name] as unknown[] | undefined) ?? []), value];
    else if (type === "map" || type === "bytes-map")
      out[name] = { ...(out[name] as Record<string, unknown> | undefined), ...(value as Record<string, unknown>) };
    // Go's encoder writes fields that are empty; in JSON they would be left out.
    else if (type === "flag" || (value !== "" && value !== 0 && value !== false && value !== undefined)) out[name] = value;
  }
  return out;
}

function read(reader: BinaryReader, type: Field[1], path: string): unknown {
  switch (type) {
    case "string":
    case "strings":
      return reader.string();
    case "int":
      return Number(reader.int64());
    case "bool":
    case "flag":
      return reader.bool();
    case "map":
    case "bytes-map":
      return entryOf(reader.bytes(), type === "map" ? "string" : "base64", path);
    case "time":
    case "micro-time":
      return timeOf(decode(reader.bytes(), { 1: ["seconds", "int"], 2: ["nanos", "int"] }, path), type === "time" ? 0 : 6, path);
    case "int-or-string": {
      const either = decode(reader.bytes(), { 1: ["type", "int"], 2: ["int", "int"], 3: ["string", "string"] }, path);
      return either.type === 1 ? (either.string ?? "") : (either.int ?? 0);
    }
    case "dropped":
      return undefined;
    default:
      return decode(reader.bytes(), type, path);
  }
}

/** One entry of a map; bytes become base64, as they are in JSON. */
function entryOf(bytes: Uint8Array, type: "string" | "base64", path: string): Record<string, string> {
  const reader = new BinaryReader(bytes);
  let [key, value] = ["", ""];
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (wire !== WireType.LengthDelimited || (number !== 1 && number !== 2))
      throw badRequest(`the body is not valid protobuf: an entry of ${path} has field ${number} with wire type ${wire}`);
    if (number === 1) key = reader.string();
    else value = type === "string" ? reader.string() : Buffer.from(reader.bytes()).toString("base64");
  }
  if (key === "__proto__") throw badRequest('"__proto__" is no field name');
  return { [key]: value };
}

/** RFC 3339 with so many digits of a second; a time that is zero is none, as in Go. */
function timeOf({ seconds, nanos = 0 }: Record<string, unknown>, digits: 0 | 6, path: string): string | undefined {
  if (seconds === undefined) return undefined;
  const at = new Date(Number(seconds) * 1000);
  if (Number.isNaN(at.getTime())) throw badRequest(`${path}: ${String(seconds)} seconds are no time`);
  const fraction = digits === 0 ? "" : `.${String(Math.trunc(Number(nanos) / 1000)).padStart(digits, "0")}`;
  return `${at.toISOString().slice(0, 19)}${fraction}Z`;
}

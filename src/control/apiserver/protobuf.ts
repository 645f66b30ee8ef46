// Owns: request bodies in Kubernetes' protobuf form, which the typed commands of kubectl (create namespace, create service, create token,
// auth can-i) send since 1.32 without being asked. Decoded to what the same object is in JSON.
// Never written: every client that sends it also takes JSON. A field that is not in the tables is refused, never dropped.
// Field numbers: generated.proto of k8s.io/api and k8s.io/apimachinery.

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { badRequest, unsupportedMediaType } from "./status.ts";

type Scalar = "string" | "int" | "bool" | "time" | "int-or-string" | "dropped";
type Field = readonly [name: string, type: Scalar | "strings" | "map" | Message] | readonly [name: string, type: Message, repeated: true];
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
    const wanted = type === "int" || type === "bool" ? WireType.Varint : WireType.LengthDelimited;
    if (wire !== wanted) throw badRequest(`the body is not valid protobuf: ${below} has wire type ${wire}`);
    const value = read(reader, type, below);
    if (type === "strings" || repeated === true) out[name] = [...((out[name] as unknown[] | undefined) ?? []), value];
    else if (type === "map") out[name] = { ...(out[name] as Record<string, unknown> | undefined), ...(value as Record<string, unknown>) };
    // Go's encoder writes fields that are empty; in JSON they would be left out.
    else if (value !== "" && value !== 0 && value !== false && value !== undefined) out[name] = value;
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
      return reader.bool();
    case "map": {
      const entry = decode(reader.bytes(), { 1: ["key", "string"], 2: ["value", "string"] }, path);
      const key = String(entry.key ?? "");
      if (key === "__proto__") throw badRequest('"__proto__" is no field name');
      return { [key]: entry.value ?? "" };
    }
    case "time": {
      const time = decode(reader.bytes(), { 1: ["seconds", "int"], 2: ["nanos", "int"] }, path);
      return time.seconds === undefined ? undefined : `${new Date(Number(time.seconds) * 1000).toISOString().slice(0, 19)}Z`;
    }
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

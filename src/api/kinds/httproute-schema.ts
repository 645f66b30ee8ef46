// Owns: what HTTPRoute and GRPCRoute have got since the schema that the package publishes (Gateway API 1.1 to 1.4, both channels).

import { extendSchema, type Schema } from "../schema.ts";
import { gatewayDuration, sectionName } from "./gateway-refs.ts";

const headerName: Schema = { type: "string", minLength: 1, maxLength: 256, pattern: "^[A-Za-z0-9!#$%&'*+\\-.^_\\x60|~]+$" };

/** GEP-1767. */
const cors: Schema = {
  type: "object",
  properties: {
    allowOrigins: { type: "array", maxItems: 64, listType: "set", items: { type: "string", minLength: 1, maxLength: 253 } },
    allowCredentials: { type: "boolean" },
    allowMethods: {
      type: "array",
      maxItems: 9,
      listType: "set",
      items: { type: "string", enum: ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"] },
    },
    allowHeaders: { type: "array", maxItems: 64, listType: "set", items: headerName },
    exposeHeaders: { type: "array", maxItems: 64, listType: "set", items: headerName },
    maxAge: { type: "integer", minimum: 1, default: 5 },
  },
};

const headerNames: Schema = { type: "array", maxItems: 64, listType: "set", items: headerName };

/** GEP-1494. */
const externalAuth: Schema = {
  type: "object",
  required: ["protocol", "backendRef"],
  properties: {
    protocol: { type: "string", enum: ["HTTP", "GRPC"] },
    backendRef: {
      type: "object",
      required: ["name"],
      properties: {
        group: { type: "string", maxLength: 253, default: "" },
        kind: { type: "string", minLength: 1, maxLength: 63, default: "Service" },
        name: { type: "string", minLength: 1, maxLength: 253 },
        namespace: { type: "string", minLength: 1, maxLength: 63, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" },
        port: { type: "integer", minimum: 1, maximum: 65535 },
      },
    },
    grpc: { type: "object", properties: { allowedHeaders: headerNames } },
    http: {
      type: "object",
      properties: {
        path: { type: "string", maxLength: 1024 },
        allowedHeaders: headerNames,
        allowedResponseHeaders: headerNames,
      },
    },
    forwardBody: { type: "object", properties: { maxSize: { type: "integer", minimum: 0, maximum: 65535 } } },
  },
};

/** GEP-3171. */
const mirrorShare: Readonly<Record<string, Schema>> = {
  percent: { type: "integer", minimum: 0, maximum: 100 },
  fraction: {
    type: "object",
    required: ["numerator"],
    properties: { numerator: { type: "integer", minimum: 0 }, denominator: { type: "integer", minimum: 1, default: 100 } },
  },
};

/** GEP-1731. */
const retry: Schema = {
  type: "object",
  properties: {
    codes: { type: "array", items: { type: "integer", minimum: 400, maximum: 599 }, maxItems: 16 },
    attempts: { type: "integer", minimum: 1, maximum: 10 },
    backoff: gatewayDuration,
  },
};

/** GEP-1619. */
const sessionPersistence: Schema = {
  type: "object",
  properties: {
    sessionName: { type: "string", minLength: 1, maxLength: 128 },
    absoluteTimeout: gatewayDuration,
    idleTimeout: gatewayDuration,
    type: { type: "string", enum: ["Cookie", "Header"], default: "Cookie" },
    cookieConfig: {
      type: "object",
      properties: { lifetimeType: { type: "string", enum: ["Session", "Permanent"], default: "Session" } },
    },
  },
};

/** A list of filters, wherever it stands. */
function withFilters(schema: Schema, path: string, http: boolean): Schema {
  const types = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "ExtensionRef",
    ...(http ? ["RequestRedirect", "URLRewrite", "CORS", "ExternalAuth"] : []),
  ];
  let out = extendSchema(schema, path, { type: { type: "string", enum: types } });
  out = extendSchema(out, `${path}.requestMirror`, mirrorShare);
  if (http) {
    out = extendSchema(out, path, { cors, externalAuth });
    out = extendSchema(out, `${path}.requestRedirect`, {
      statusCode: { type: "integer", default: 302, enum: [301, 302, 303, 307, 308] },
    });
  }
  return out;
}

export function httpRouteSchema(published: Schema): Schema {
  const out = extendSchema(published, "rules[]", { name: sectionName, retry, sessionPersistence });
  return withFilters(withFilters(out, "rules[].filters[]", true), "rules[].backendRefs[].filters[]", true);
}

export function grpcRouteSchema(published: Schema): Schema {
  const out = extendSchema(published, "rules[]", { name: sectionName, sessionPersistence });
  return withFilters(withFilters(out, "rules[].filters[]", false), "rules[].backendRefs[].filters[]", false);
}

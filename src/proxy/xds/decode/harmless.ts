// Owns: the one list of fields that Envoy has, our subset lacks, and a proxy may pass over without lying to anyone: leaving them out changes no
// traffic, no policy and no name in what we export. Anything not listed here rejects the resource. Each entry has its reason.

export interface HarmlessField {
  readonly message: string;
  readonly number: number;
  readonly name: string;
  readonly reason: string;
}

export const harmlessFields: readonly HarmlessField[] = [
  {
    message: "envoy.config.core.v3.Node",
    number: 8,
    name: "user_agent_build_version",
    reason: "describes the client to the server; we send our own",
  },
  { message: "envoy.config.core.v3.Node", number: 9, name: "extensions", reason: "describes the client to the server; we send our own" },
  {
    message: "envoy.config.cluster.v3.Cluster",
    number: 28,
    name: "alt_stat_name",
    reason: "names Envoy's own statistics; ours carry Istio's names",
  },
  {
    message: "envoy.config.route.v3.Route",
    number: 19,
    name: "stat_prefix",
    reason: "names Envoy's own statistics; ours carry Istio's names",
  },
  {
    message: "envoy.config.route.v3.VirtualHost",
    number: 24,
    name: "metadata",
    reason: "metadata nobody here reads",
  },
  {
    message: "envoy.config.listener.v3.FilterChain",
    number: 5,
    name: "metadata",
    reason: "metadata nobody here reads",
  },
  {
    message: "envoy.config.endpoint.v3.LocalityLbEndpoints",
    number: 9,
    name: "metadata",
    reason: "metadata nobody here reads",
  },
  {
    message: "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider",
    number: 12,
    name: "jwt_cache_config",
    reason: "how many checked tokens are remembered: here always up to 1 000",
  },
  {
    message: "envoy.extensions.filters.http.rbac.v3.RBAC",
    number: 6,
    name: "rules_stat_prefix",
    reason: "names Envoy's own statistics; ours carry Istio's names",
  },
];

const byNumber = new Set(harmlessFields.map((f) => `${f.message}#${f.number}`));
const byName = new Set(harmlessFields.flatMap((f) => [`${f.message}.${f.name}`, `${f.message}.${camel(f.name)}`]));

export function isHarmlessNumber(message: string, field: number): boolean {
  return byNumber.has(`${message}#${field}`);
}

export function isHarmlessName(message: string, field: string): boolean {
  return byName.has(`${message}.${field}`);
}

function camel(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_all, letter: string) => letter.toUpperCase());
}

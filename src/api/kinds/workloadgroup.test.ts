// WorkloadGroup and ProxyConfig: what is accepted, and what is refused with its path.

import { describe, expect, test } from "bun:test";
import { parse } from "yaml";
import type { DefinedKind } from "../define.ts";
import type { KubeObject } from "../meta.ts";
import { proxyConfigKind } from "./proxyconfig.ts";
import { workloadGroupKind } from "./workloadgroup.ts";

function problems(kind: DefinedKind, spec: string, namespace = "shop"): string[] {
  const object = {
    apiVersion: `${kind.group}/${kind.versions[0]}`,
    kind: kind.kind,
    metadata: { name: "reviews", namespace },
    spec: parse(spec),
  } as KubeObject;
  kind.applyDefaults(object);
  return kind.validate(object).map(({ path, message }) => `${path}: ${message}`);
}

describe("WorkloadGroup", () => {
  const template = "template: {ports: {http: 8080}, serviceAccount: reader}";
  const probe = (text: string) => `{${template}, probe: {${text}}}`;
  const cases: readonly (readonly [what: string, spec: string, wanted: readonly (string | RegExp)[]])[] = [
    [
      "everything that has a meaning",
      "{metadata: {labels: {team: books}, annotations: {contact: x}}, template: {labels: {version: v1}, ports: {http: 8080}, weight: 2, locality: eu/a/b, serviceAccount: reader}, probe: {initialDelaySeconds: 1, timeoutSeconds: 2, periodSeconds: 3, successThreshold: 1, failureThreshold: 4, httpGet: {path: /ok, port: 8080, scheme: HTTPS, host: 127.0.0.1, httpHeaders: [{name: x-probe, value: a b}]}}}",
      [],
    ],
    ["a TCP probe", probe("tcpSocket: {port: 8080}"), []],
    ["a command", probe("exec: {command: [test, -f, ready]}"), []],
    ["a gRPC probe", probe("grpc: {port: 8080, service: shop.Reviews}"), []],
    ["no template", "{}", [/^spec\.template: /]],
    ["an address", "{template: {address: 10.0.0.1}}", [/^spec\.template\.address: .*weft run --address/]],
    ["a network", "{template: {network: other}}", [/^spec\.template\.network: .*one network/]],
    [
      "labels that contradict",
      "{metadata: {labels: {v: a}}, template: {labels: {v: b}}}",
      ['spec.template.labels["v"]: "b" contradicts "a" in spec.metadata.labels; keep one'],
    ],
    [
      "no sidecar",
      "{template: {labels: {security.istio.io/tlsMode: disabled}}}",
      ['spec.template.labels["security.istio.io/tlsMode"]: must be istio, as instances of weft run have a sidecar; got "disabled"'],
    ],
    ["a label that is none", '{template: {labels: {"a b": "c d"}}}', [/is no key of a label/, /"c d" is no value of a label/]],
    [
      "an annotation of the sidecar's",
      "{metadata: {annotations: {weft.dev/health: none}}, template: {}}",
      ['spec.metadata.annotations["weft.dev/health"]: is written by weft run itself, from its flags; leave it out'],
    ],
    ["ports that are none", "{template: {ports: {HTTP: 0}}}", [/is no port name/, /must be from 1 to 65535, got 0/]],
    ["a place that is none", "{template: {locality: a//b}}", [/^spec\.template\.locality: "a\/\/b" must be REGION/]],
    ["a weight below none", "{template: {weight: -1}}", ["spec.template.weight: must be from 0 to 1000000, got -1"]],
    ["a probe of nothing", probe(""), ["spec.probe: needs exactly one of httpGet, tcpSocket, exec, grpc"]],
    [
      "two ways to ask",
      probe("tcpSocket: {port: 1}, grpc: {port: 2}"),
      ["spec.probe: needs exactly one of httpGet, tcpSocket, exec, grpc, has tcpSocket, grpc"],
    ],
    [
      "another host",
      probe("httpGet: {port: 1, host: db}"),
      [/^spec\.probe\.httpGet\.host: "db": the application is asked on 127\.0\.0\.1/],
    ],
    ["no port", probe("httpGet: {path: /}"), ["spec.probe.httpGet.port: must be from 1 to 65535"]],
    [
      "a scheme, a path and a header that are none",
      probe("httpGet: {port: 1, scheme: FTP, path: x, httpHeaders: [{name: a b, value: c}]}"),
      [/httpGet\.path: "x"/, /httpGet\.scheme: "FTP" must be HTTP or HTTPS/, /httpHeaders\[0\]\.name: "a b"/],
    ],
    ["a time below none", probe("tcpSocket: {port: 1}, periodSeconds: -1"), ["spec.probe.periodSeconds: must be from 0 to 3600, got -1"]],
    ["no command", probe("exec: {}"), ["spec.probe.exec.command: must name a program"]],
  ];
  for (const [what, spec, wanted] of cases)
    test(what, () => {
      const found = problems(workloadGroupKind, spec);
      expect(found).toHaveLength(wanted.length);
      for (const [at, each] of wanted.entries())
        if (typeof each === "string") expect(found[at]).toBe(each);
        else expect(found[at]).toMatch(each);
    });
});

describe("ProxyConfig", () => {
  const cases: readonly (readonly [what: string, spec: string, wanted: readonly RegExp[], namespace?: string])[] = [
    ["for some workloads", "{selector: {matchLabels: {app: reviews}}, concurrency: 2}", []],
    ["for the mesh", "{concurrency: 0}", [], "weft-system"],
    ["nothing", "{}", [/^spec\.concurrency: is missing/]],
    ["too many", "{concurrency: 129}", [/^spec\.concurrency: must be from 1 to 128, or 0/]],
    ["nobody", "{selector: {}, concurrency: 1}", [/^spec\.selector\.matchLabels: must name at least one/]],
    [
      "some of the mesh",
      "{selector: {matchLabels: {a: b}}, concurrency: 1}",
      [/^spec\.selector: cannot stand in weft-system/],
      "weft-system",
    ],
    ["an environment", "{concurrency: 1, environmentVariables: {A: b}}", [/^spec\.environmentVariables: .*where it is started/]],
    ["an image", "{concurrency: 1, image: {imageType: distroless}}", [/^spec\.image: .*not containers/]],
  ];
  for (const [what, spec, wanted, namespace] of cases)
    test(what, () => {
      const found = problems(proxyConfigKind, spec, namespace);
      expect(found).toHaveLength(wanted.length);
      for (const [at, each] of wanted.entries()) expect(found[at]).toMatch(each);
    });
});

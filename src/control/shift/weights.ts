// Owns: reading and setting the share that a backend has in an HTTPRoute. Pure; objects go in and come out, none is changed.

import type { KubeObject } from "../../api/meta.ts";

interface BackendRef {
  readonly group?: string;
  readonly kind?: string;
  readonly name: string;
  readonly namespace?: string;
  readonly weight?: number;
}

interface Rule {
  readonly backendRefs?: readonly BackendRef[];
}

const weightOf = (ref: BackendRef): number => ref.weight ?? 1;

function rulesOf(route: KubeObject): readonly Rule[] {
  return (route.spec as { rules?: readonly Rule[] } | undefined)?.rules ?? [];
}

function isService(ref: BackendRef, name: string, namespace: string): boolean {
  return (
    ref.name === name && (ref.kind ?? "Service") === "Service" && (ref.group ?? "") === "" && (ref.namespace ?? namespace) === namespace
  );
}

/** Rules that divide traffic between the two. */
function shared(
  route: KubeObject,
  from: string,
  to: string,
): { readonly rule: Rule; readonly from: BackendRef; readonly to: BackendRef }[] {
  const namespace = route.metadata.namespace ?? "";
  return rulesOf(route).flatMap((rule) => {
    const older = rule.backendRefs?.find((ref) => isService(ref, from, namespace));
    const newer = rule.backendRefs?.find((ref) => isService(ref, to, namespace));
    return older === undefined || newer === undefined ? [] : [{ rule, from: older, to: newer }];
  });
}

/** The share of `to`, in percent of what the two have together; a sentence where there is none. */
export function percentOf(route: KubeObject, from: string, to: string): number | string {
  const rules = shared(route, from, to);
  if (rules.length === 0)
    return `no rule of HTTPRoute ${route.metadata.name} has both ${from} and ${to} among its backends; add the one that is missing with weight: 0`;
  const shares = new Set(
    rules.map((each) => {
      const sum = weightOf(each.from) + weightOf(each.to);
      return sum === 0 ? 0 : Math.round((100 * weightOf(each.to)) / sum);
    }),
  );
  if (shares.size > 1)
    return `the rules of HTTPRoute ${route.metadata.name} divide differently between ${from} and ${to} (${[...shares].map((each) => `${each} %`).join(", ")}); make them alike first`;
  const [only] = shares;
  return only as number;
}

/** The route with `percent` for `to`. Where the two had too small weights to say that, all weights of the rule are multiplied. */
export function withPercent(route: KubeObject, from: string, to: string, percent: number): KubeObject {
  const namespace = route.metadata.namespace ?? "";
  const touched = new Set(shared(route, from, to).map(({ rule }) => rule));
  const rules = rulesOf(route).map((rule) => {
    if (!touched.has(rule)) return rule;
    const refs = rule.backendRefs ?? [];
    const both = refs.filter((ref) => isService(ref, from, namespace) || isService(ref, to, namespace));
    const sum = both.reduce((total, ref) => total + weightOf(ref), 0);
    const factor = sum === 0 ? 1 : Math.ceil(100 / Math.min(sum, 100));
    const whole = sum === 0 ? 100 : sum * factor;
    const newer = Math.round((whole * percent) / 100);
    return {
      ...rule,
      backendRefs: refs.map((ref) => {
        if (isService(ref, to, namespace)) return { ...ref, weight: newer };
        if (isService(ref, from, namespace)) return { ...ref, weight: whole - newer };
        return factor === 1 ? ref : { ...ref, weight: weightOf(ref) * factor };
      }),
    };
  });
  const metadata = { ...route.metadata, generation: (route.metadata.generation ?? 0) + 1 };
  return { ...route, metadata, spec: { ...(route.spec as object), rules } } as KubeObject;
}

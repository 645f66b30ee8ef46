// Owns: a Secret that would no longer do for a DestinationRule that goes by it now: refused, so that what is there goes on serving. A Secret that is
// deleted is taken away on purpose. Never looks at what others than DestinationRules read.

import { tlsPlaces } from "../../api/kinds/destinationrule-spec.ts";
import type { SecretObject } from "../../api/kinds/gateway-secret.ts";
import type { Violation } from "../../api/meta.ts";
import { credentialProblem, readCredential } from "../policies/credential.ts";
import { secretSource } from "../route-sources.ts";
import { destinationRuleSource } from "../sources.ts";
import { keyOf, type World } from "../world.ts";

const besideIt = "-cacert";

export function secretConflicts(world: World, candidate: SecretObject): readonly Violation[] {
  const key = keyOf(candidate);
  const out: Violation[] = [];
  // `NAME-cacert` is of NAME too.
  for (const named of key.endsWith(besideIt) ? [key, key.slice(0, -besideIt.length)] : [key]) {
    const secrets = world.objects(secretSource);
    const [own, beside] = [secrets.get(named), secrets.get(`${named}${besideIt}`)];
    const before = readCredential(named, own, beside);
    const after = readCredential(named, named === key ? candidate : own, named === key ? beside : candidate);
    for (const rule of world.objects(destinationRuleSource).by("credential", named))
      for (const { place, tls } of tlsPlaces(rule)) {
        if (`${key.slice(0, key.indexOf("/"))}/${tls.credentialName}` !== named) continue;
        const [mutual, unchecked] = [tls.mode === "MUTUAL", tls.insecureSkipVerify === true];
        const problem = credentialProblem(after, mutual, unchecked);
        if (problem === "" || credentialProblem(before, mutual, unchecked) !== "") continue;
        out.push({
          path: "data",
          message: `${problem}, and ${place}.credentialName of DestinationRule ${keyOf(rule)} goes by it: its calls would be answered with 503; mend it, or change the rule first`,
        });
      }
  }
  return out;
}

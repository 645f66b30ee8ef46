// Owns: which of the fields that are refused today are meant to be built. For docs/reference/kinds.md only: nothing reads it at run time, and what is refused is said by
// the kinds themselves. An entry whose field is built meanwhile says nothing any more, and is named by the generator.

/** By kind, generic paths as in its refusals (`spec.action=CUSTOM`), or their ends after a dot; `*` = the kind as a whole. */
export const planned: Readonly<Record<string, readonly string[]>> = {
  EndpointSlice: ["addressType=FQDN", "endpoints[].hints"],
  ServiceEntry: ["endpoints[].locality"],
  Gateway: ["spec.tls", "listeners[].tls.frontendValidation"],
  ListenerSet: ["listeners[].tls.frontendValidation"],
  XListenerSet: ["listeners[].tls.frontendValidation"],
  AuthorizationPolicy: ["spec.action=CUSTOM", "spec.action=AUDIT", "spec.provider", "spec.targetRef", "spec.targetRefs"],
  RequestAuthentication: ["spec.targetRef", "spec.targetRefs"],
  Telemetry: ["spec.metrics", "spec.tracing", "spec.targetRef", "spec.targetRefs", "accessLogging[].filter"],
};

export function isPlanned(kind: string, path: string): boolean {
  return (planned[kind] ?? []).some((each) => path === each || path.endsWith(`.${each}`));
}

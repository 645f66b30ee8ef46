// Owns: the certificate authority over the API: how it stands, and the steps of replacing its root. Paths below /weft/v1alpha1/ca, for administrators and for
// the other control planes. Never sees a key.

import type { RootRotation, TrustReport } from "./rotation.ts";

export const caPrefix = "/weft/v1alpha1/ca";

interface CaApiDeps {
  readonly rotation: RootRotation;
  readonly report: () => TrustReport;
  /** How the keys of the mesh stand in the store that control planes share; null: they are in the data folder alone. */
  readonly sharedKeys: "plain" | "sealed" | null;
}

export async function handleCa(request: Request, { rotation, report, sharedKeys }: CaApiDeps): Promise<Response | undefined> {
  const { pathname } = new URL(request.url);
  const what = pathname.slice(caPrefix.length);
  if (request.method === "GET" && what === "") return Response.json({ ...(await rotation.status()), sharedKeys });
  if (request.method === "GET" && what === "/report") return Response.json(report());
  if (request.method !== "POST" || !["/rotate", "/finish", "/abandon"].includes(what)) return undefined;
  try {
    if (what === "/rotate") await rotation.start();
    else if (what === "/abandon") await rotation.abandon();
    else await rotation.finish(new URL(request.url).searchParams.get("force") === "true");
    return Response.json({ ...(await rotation.status()), sharedKeys });
  } catch (cause) {
    if (!(cause instanceof Error) || (cause.name !== "RotationRefused" && cause.name !== "IdentityError")) throw cause;
    const body = {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message: cause.message,
      reason: "Conflict",
      code: 409,
    };
    return Response.json(body, { status: 409 });
  }
}

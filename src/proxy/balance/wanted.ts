// Owns: what one request wants of the choice of its endpoint, in one reused record that is filled just before `pick` and read within it.
// Hashes are Envoy's (xxHash64), so that with Maglev proxies of both kinds in one mesh agree about keys. Never reads a request itself.

export interface Wanted {
  /** The request names a key; otherwise consistent hashing draws at random, as Envoy does. */
  hashed: boolean;
  hash: bigint;
  /** `host:port` of the endpoint that a session stays with; null = none. */
  address: string | null;
}

/** One, reused. `pick` takes what is in it and leaves it empty. */
export const wanted: Wanted = { hashed: false, hash: 0n, address: null };

const mask = 0xffff_ffff_ffff_ffffn;

export function hash64(value: string | Uint8Array, seed = 0n): bigint {
  return Bun.hash.xxHash64(value, seed) as bigint;
}

/** As Envoy joins the hashes of several policies. */
export function joinHash(so_far: bigint, next: bigint): bigint {
  return (((so_far << 1n) & mask) | (so_far >> 63n)) ^ next;
}

/** As Envoy writes addresses where it hashes them. */
export function addressText(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

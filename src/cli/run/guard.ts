// Owns: what happens when the supervisor itself is killed with SIGKILL: a small shell, in a session of its own, waits on a pipe; when the
// pipe breaks it unregisters the instance, ends the application and the sidecar, and removes the private folder. A shell, because it
// waits for as long as the application runs and takes a tenth of the memory of anything else.

import { Client } from "../client.ts";
import { CliFailure, reasonOf } from "../failure.ts";
import type { Access } from "../kubeconfig.ts";

// `read` is built into the shell: no further process while it waits. Lines: `command PID`, `sidecar PID`, `done`.
const script = `
trap '' INT TERM HUP QUIT
command= sidecar=
while IFS=' ' read -r word value; do
  case $word in
    command) command=$value ;;
    sidecar) sidecar=$value ;;
    done) exit 0 ;;
  esac
done
[ -n "$command" ] && kill -TERM "$command" 2>/dev/null
"$@" 2>/dev/null
[ -n "$sidecar" ] && kill -TERM "$sidecar" 2>/dev/null
cd /
rm -rf "$WEFT_RUN_DIR"
for lock in $WEFT_RUN_LOCKS; do
  owner=
  read -r owner 2>/dev/null <"$lock"
  [ "$owner" = "$WEFT_RUN_PID" ] && rm -f "$lock"
done
`;

export interface Guard {
  tell(what: "command" | "sidecar", pid: number): void;
  /** The supervisor has cleaned up itself. */
  dismiss(): void;
}

/** `unregister`: argument vector that deletes the registration. */
export function startGuard(
  unregister: readonly string[],
  dir: string,
  locks: readonly string[],
  env: Readonly<Record<string, string>>,
): Guard {
  const child = Bun.spawn(["/bin/sh", "-c", script, "weft-run-guard", ...unregister], {
    stdin: "pipe",
    stdout: "ignore",
    stderr: "ignore",
    env: { ...env, WEFT_RUN_DIR: dir, WEFT_RUN_LOCKS: locks.join(" "), WEFT_RUN_PID: String(process.pid) },
    detached: true,
  });
  child.unref();
  const send = (line: string) => {
    child.stdin.write(`${line}\n`);
    void child.stdin.flush();
  };
  return { tell: (what, pid) => send(`${what} ${pid}`), dismiss: () => send("done") };
}

/** What says whose run of the instance this is. */
export interface Lock {
  readonly file: string;
  readonly text: string;
}

/** `weft __unregister FILE`: the guard's call. The file holds access and path; it is private to the user, as the kubeconfig is. */
export async function unregister(file: string): Promise<number> {
  const { access, path, lock } = (await Bun.file(file).json()) as { access: Access; path: string; lock?: Lock };
  const client = new Client(access);
  for (let attempt = 0; attempt < 5; attempt++) {
    // Started anew meanwhile, under the same name: the registration is that run's.
    if (
      lock !== undefined &&
      (await Bun.file(lock.file)
        .text()
        .catch(() => lock.text)) !== lock.text
    )
      return 0;
    try {
      await client.json(path, { method: "DELETE", timeoutMs: 2000 });
      return 0;
    } catch (error) {
      if (error instanceof CliFailure && "code" in error) return 0; // it is gone, or never was
      process.stderr.write(`${reasonOf(error)}\n`);
      await Bun.sleep(500);
    }
  }
  return 1;
}

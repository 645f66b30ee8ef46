// Owns: the command `weft up`: flags in, words out, signals, exit status. The parts and their order are in `plane.ts`.

import { systemClock } from "../base/clock.ts";
import { errorCode } from "./identity/files.ts";
import { LockedError } from "./lock.ts";
import { pinoLogger, textLogger } from "./log.ts";
import { parseOptions, UsageError, usage } from "./options.ts";
import { PortError } from "./ports.ts";

/** Runs until a signal; resolves to the exit status: 0 stopped, 1 could not start, 2 wrong flags. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: ReturnType<typeof parseOptions>;
  try {
    const named = argv.some((word) => word.startsWith("--config")) || (process.env.WEFT_CONFIG ?? "") !== "";
    options = parseOptions(argv, process.env, named ? (await import("./config-file.ts")).readConfigFile : undefined);
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    process.stderr.write(`weft up: ${cause.message}\n`);
    return 2;
  }
  if (options === "help") {
    process.stdout.write(usage);
    return 0;
  }

  const json = options.logFormat === "json" ? pinoLogger(options.logLevel) : undefined;
  const log = json?.log ?? textLogger(options.logLevel, () => systemClock.now());
  const stopping = Promise.withResolvers<string>();
  let signals = 0;
  const onSignal = (signal: string) => {
    signals++;
    if (signals > 1) process.exit(130);
    stopping.resolve(signal);
  };
  process.on("SIGTERM", () => onSignal("SIGTERM"));
  process.on("SIGINT", () => onSignal("SIGINT"));
  // Bugs of ours. One request or stream is lost by them; the mesh's control plane is not.
  process.on("uncaughtException", (cause) => log.error({ cause, stack: cause.stack }, "An exception was caught by nobody"));
  process.on("unhandledRejection", (cause) =>
    log.error({ cause, stack: cause instanceof Error ? cause.stack : undefined }, "A promise failed and nobody looked"),
  );

  try {
    const { startControlPlane } = await import("./plane.ts");
    for (;;) {
      const lost = Promise.withResolvers<string>();
      const plane = await startControlPlane({ ...options, log, onLost: lost.resolve });
      process.stdout.write(
        `${plane.created ? `A new mesh, trust domain ${plane.trustDomain}, in ${options.dataDir}\n` : ""}` +
          `weft is up in ${Math.round(performance.now())} ms\n` +
          `  dashboard   ${plane.dashboardUrl}\n` +
          `  API         ${plane.apiUrl}\n` +
          `  xDS         ${plane.xdsAddress}\n` +
          `  kubeconfig  ${plane.kubeconfigPath}\n`,
      );
      await json?.ready();
      const signal = await Promise.race([stopping.promise, lost.promise.then((why) => ({ why }))]);
      if (typeof signal === "object") {
        // Everything in memory hangs on what can no longer be followed: proxies go to another control plane meanwhile.
        log.error({ why: signal.why }, "Starting again from what the store holds now");
        await plane.stop();
        continue;
      }
      log.info({ signal }, "Stopping");
      await plane.stop();
      return 0;
    }
  } catch (cause) {
    await json?.ready();
    const words = isForTheUser(cause) ? cause.message : folderTrouble(cause, options.dataDir);
    if (words !== undefined) process.stderr.write(`weft up: ${words}\n`);
    else {
      log.error({ cause, stack: cause instanceof Error ? cause.stack : undefined }, "The control plane could not start");
      process.stderr.write(`weft up: ${cause instanceof Error ? cause.message : String(cause)}\n`);
    }
    return 1;
  }
}

/** These errors are sentences already. */
function isForTheUser(cause: unknown): cause is Error {
  return (
    cause instanceof LockedError ||
    cause instanceof PortError ||
    (cause instanceof Error && (cause.name === "IdentityError" || cause.name === "StoreFailure"))
  );
}

const folderCodes: Readonly<Record<string, string>> = {
  ENOSPC: "its disk is full; free some space there, or choose another folder with --data",
  EDQUOT: "its quota is used up; free some space there, or choose another folder with --data",
  EROFS: "it is on a read-only file system; choose another folder with --data",
  EACCES: "this user may not write there; choose another folder with --data",
  EPERM: "this user may not write there; choose another folder with --data",
  ENOTDIR: "a part of that path is a file; choose another folder with --data",
  EEXIST: "there is a file of that name; choose another folder with --data",
};

/** What the file system said of the data folder, in words; undefined for anything else. */
function folderTrouble(cause: unknown, dataDir: string): string | undefined {
  const what = folderCodes[errorCode(cause) ?? ""];
  return what === undefined ? undefined : `the data folder ${dataDir} cannot be used: ${what}`;
}

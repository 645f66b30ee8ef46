// Owns: the first argument, which picks a command. Never does a command's work, and imports none before it is asked for:
// `weft proxy` is started once per application instance, so what it does not need must not be loaded.

const [command, ...rest] = process.argv.slice(2);

/** Resolves to the exit status; undefined leaves it to the process (a server that goes on running). */
type Main = (argv: readonly string[]) => Promise<number | undefined | void> | number | undefined | void;

async function pick(name: string | undefined): Promise<Main> {
  switch (name) {
    case "proxy":
      return (await import("./proxy/app.ts")).main as Main;
    case "up":
      return (await import("./control/app.ts")).main as Main;
    case "run":
      return (await import("./cli/run/main.ts")).main;
    default: {
      const { main } = await import("./cli/main.ts");
      return () => main(process.argv.slice(2));
    }
  }
}

const status = await (await pick(command))(rest);
if (typeof status === "number") process.exitCode = status;

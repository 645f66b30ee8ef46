// A sidecar is started by the executable while that stands for the sources, otherwise by Bun from the sources.
import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bunCommand, fresh, ownProxyCommand, proxyCommand, sidecarManifestPath, sidecarPath } from "./built.ts";
import { packageRoot } from "./root.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function made(): string {
  const root = mkdtempSync(join(tmpdir(), "weft-built-"));
  folders.push(root);
  mkdirSync(join(root, "dist/sidecar"), { recursive: true });
  mkdirSync(join(root, "src"));
  writeFileSync(join(root, "src/main.ts"), "");
  utimesSync(join(root, "src/main.ts"), 1_000, 1_000);
  writeFileSync(sidecarPath(root), "");
  writeFileSync(sidecarManifestPath(root), JSON.stringify({ bun: Bun.version, sources: ["src/main.ts"] }));
  return root;
}

test("the executable starts a proxy only while it is newer than its sources", () => {
  const root = made();
  expect(proxyCommand(root)).toEqual([sidecarPath(root), "proxy"]);
  const later = Date.now() / 1000 + 5;
  utimesSync(join(root, "src/main.ts"), later, later);
  expect(proxyCommand(root)).toEqual([...bunCommand(join(root, "src/main.ts")), "proxy"]);
});

test("a process that runs from its sources starts others from them", () => {
  expect(ownProxyCommand().slice(1)).toEqual(["--no-env-file", "--config=/dev/null", "--no-install", process.argv[1] as string, "proxy"]);
});

const root = packageRoot();
const executable = fresh(root, sidecarPath(root), sidecarManifestPath(root));

/** What it says, with a folder around it whose files a bare Bun would read. */
async function run(...args: string[]): Promise<{ readonly status: number; readonly out: string }> {
  const folder = mkdtempSync(join(tmpdir(), "weft-built-"));
  folders.push(folder);
  writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./loud.ts"]\n');
  writeFileSync(join(folder, "loud.ts"), 'console.log("preloaded");\n');
  // YAML: its library is inside the executable, for nothing is beside it in this folder.
  writeFileSync(join(folder, "bootstrap.yaml"), "node: {id: a}\nadmn: {}\n");
  const child = Bun.spawn([executable as string, ...args], { cwd: folder, stdout: "pipe", stderr: "pipe", env: {} });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { status: await child.exited, out: out + err };
}

test.skipIf(executable === undefined)(
  "the executable is the proxy alone, and takes nothing from the folder it stands in",
  async () => {
    expect(existsSync(executable as string)).toBe(true);
    const wrong = await run("up");
    expect(wrong).toEqual({ status: 2, out: "weft: this file is the proxy of `weft run` alone, and takes no other command: up\n" });
    const refused = await run("proxy", "--bootstrap", "bootstrap.yaml");
    expect(refused.status).toBe(2);
    expect(refused.out).toContain("admn");
    expect(refused.out).not.toContain("preloaded");
  },
  60_000,
);

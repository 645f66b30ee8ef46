// Owns: where this package stands on the disk, from wherever its code was loaded: a source file, or a bundle under dist/.
// Never says anything about the user's folders.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** The folder that holds package.json. Throws when there is none above this code: then the package is not whole. */
export function packageRoot(): string {
  let folder = import.meta.dir;
  while (!existsSync(join(folder, "package.json"))) {
    const above = dirname(folder);
    if (above === folder) throw new Error(`no package.json above ${import.meta.dir}: the package is not whole, install it again`);
    folder = above;
  }
  return folder;
}

// Owns: JSON patch (RFC 6902) with JSON pointers (RFC 6901). Never changes its arguments; the first operation that fails fails the patch.

import { isRecord, maxBodyBytes } from "./body.ts";
import { badRequest } from "./status.ts";

/** More operations than any tool sends; each may copy the document. */
const maxOperations = 1000;

/** What "copy" may add up to, as text: copies of copies double with each operation. As much as a body may bring. */
const maxCopiedBytes = maxBodyBytes;

/** Throws 400 naming the operation that cannot be done. */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest("a JSON patch is a list of operations");
  if (patch.length > maxOperations) throw badRequest(`the JSON patch has ${patch.length} operations; at most ${maxOperations} are taken`);
  let copied = 0;
  let document: unknown = structuredClone(target);
  for (const [at, operation] of patch.entries()) {
    const fail = (why: string) => badRequest(`JSON patch, operation ${at}: ${why}`);
    if (!isRecord(operation)) throw fail("is not an object");
    const { op, path, from } = operation;
    if (typeof path !== "string") throw fail('has no "path"');
    const to = pointer(path, fail);
    const value = () => {
      if (!Object.hasOwn(operation, "value")) throw fail('has no "value"');
      return structuredClone(operation.value);
    };
    const source = () => {
      if (typeof from !== "string") throw fail('has no "from"');
      return pointer(from, fail);
    };
    switch (op) {
      case "add":
        document = add(document, to, value(), fail);
        break;
      case "remove":
        document = remove(document, to, fail);
        break;
      case "replace":
        read(document, to, fail);
        document = to.length === 0 ? value() : add(remove(document, to, fail), to, value(), fail);
        break;
      case "move": {
        const origin = source();
        const moved = read(document, origin, fail);
        if (origin.length < to.length && origin.every((part, index) => part === to[index])) throw fail("would move a value into itself");
        document = add(remove(document, origin, fail), to, moved, fail);
        break;
      }
      case "copy": {
        const text = JSON.stringify(read(document, source(), fail));
        copied += text.length;
        if (copied > maxCopiedBytes) throw fail(`the copies add up to more than ${maxCopiedBytes} bytes (3 MiB)`);
        document = add(document, to, JSON.parse(text), fail);
        break;
      }
      case "test":
        if (!Bun.deepEquals(read(document, to, fail), value(), true))
          throw fail(`the value at ${JSON.stringify(path)} is not the one tested for`);
        break;
      default:
        throw fail(`${JSON.stringify(op)} is not an operation; use add, remove, replace, move, copy or test`);
    }
  }
  return document;
}

type Fail = (why: string) => Error;

function pointer(text: string, fail: Fail): string[] {
  if (text === "") return [];
  if (!text.startsWith("/")) throw fail(`${JSON.stringify(text)} is not a JSON pointer: it begins with "/"`);
  return text
    .slice(1)
    .split("/")
    .map((part) => {
      const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
      if (name === "__proto__") throw fail('"__proto__" is no field name');
      return name;
    });
}

function read(document: unknown, path: readonly string[], fail: Fail): unknown {
  let at = document;
  for (const [depth, part] of path.entries()) {
    if (Array.isArray(at)) at = at[index(part, at.length, path.slice(0, depth), fail)];
    else if (isRecord(at) && Object.hasOwn(at, part)) at = at[part];
    else throw fail(`there is nothing at ${JSON.stringify(`/${path.slice(0, depth + 1).join("/")}`)}`);
  }
  return at;
}

/** `list`: where the list stands. */
function index(part: string, places: number, list: readonly string[], fail: Fail): number {
  if (!/^(0|[1-9][0-9]*)$/.test(part) || Number(part) >= places) {
    const length = places === 1 ? "1 place" : `${places} places`;
    throw fail(`${JSON.stringify(part)} is no index of ${JSON.stringify(`/${list.join("/")}`)}: the list has ${length}, counted from 0`);
  }
  return Number(part);
}

// The document is this patch's own copy, so it is changed in place.
function add(document: unknown, path: readonly string[], value: unknown, fail: Fail): unknown {
  const last = path.at(-1);
  if (last === undefined) return value;
  const parent = read(document, path.slice(0, -1), fail);
  if (Array.isArray(parent))
    parent.splice(last === "-" ? parent.length : index(last, parent.length + 1, path.slice(0, -1), fail), 0, value);
  else if (isRecord(parent)) parent[last] = value;
  else throw fail(`${JSON.stringify(`/${path.slice(0, -1).join("/")}`)} is neither an object nor a list`);
  return document;
}

function remove(document: unknown, path: readonly string[], fail: Fail): unknown {
  read(document, path, fail);
  const last = path.at(-1);
  if (last === undefined) throw fail("the whole object cannot be removed by a patch; delete it");
  const parent = read(document, path.slice(0, -1), fail);
  if (Array.isArray(parent)) parent.splice(index(last, parent.length, path.slice(0, -1), fail), 1);
  else if (isRecord(parent)) delete parent[last];
  return document;
}

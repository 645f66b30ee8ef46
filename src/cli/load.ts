// Owns: verb -> its code, loaded when it is asked for. One line a verb; nothing registers itself.

import type { Run } from "./verb.ts";

export const loaders: Readonly<Record<string, () => Promise<{ readonly run: Run }>>> = {
  apply: () => import("./verbs/apply.ts"),
  validate: () => import("./verbs/validate.ts"),
  diff: () => import("./verbs/diff.ts"),
  audit: () => import("./verbs/audit.ts"),
  history: () => import("./verbs/history.ts"),
  rollback: () => import("./verbs/rollback.ts"),
  backup: () => import("./verbs/backup.ts"),
  ca: () => import("./verbs/ca.ts"),
  token: () => import("./verbs/token.ts"),
  bootstrap: () => import("./verbs/bootstrap.ts"),
  shift: () => import("./verbs/shift.ts"),
  user: () => import("./verbs/user.ts"),
  check: () => import("./verbs/check.ts"),
  "bug-report": () => import("./verbs/bug-report.ts"),
  export: () => import("./verbs/export.ts"),
  get: () => import("./verbs/get.ts"),
  describe: () => import("./verbs/describe.ts"),
  delete: () => import("./verbs/delete.ts"),
  status: () => import("./verbs/status.ts"),
  top: () => import("./verbs/top.ts"),
  logs: () => import("./verbs/logs.ts"),
  kubeconfig: () => import("./verbs/kubeconfig.ts"),
  version: () => import("./verbs/version.ts"),
  completion: () => import("./verbs/completion.ts"),
  help: () => import("./verbs/help.ts"),
};

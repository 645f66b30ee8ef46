// Owns: the start of the page in the browser. The only file that names the real fetch.

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import { applyStoredTheme } from "./chrome/theme.ts";
import { createApi } from "./live/api.ts";

applyStoredTheme();
const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <App api={createApi((path, init) => fetch(path, init))} />
  </StrictMode>,
);

// Owns: light, dark or as the system says; kept in this browser. Only sets `data-theme` on the document: the stylesheet does the rest.

import { useEffect, useState } from "react";

export type Theme = "auto" | "light" | "dark";

const storageKey = "weft.theme";

function stored(): Theme {
  try {
    const value = localStorage.getItem(storageKey);
    return value === "light" || value === "dark" ? value : "auto";
  } catch {
    // Storage may be forbidden: then the choice lasts as long as the page.
    return "auto";
  }
}

export interface ThemeState {
  readonly theme: Theme;
  /** What is in force: for canvases, which must be drawn anew when it changes. */
  readonly effective: "light" | "dark";
  readonly choose: (theme: Theme) => void;
}

export function useTheme(): ThemeState {
  const [theme, setTheme] = useState(stored);
  const [systemDark, setSystemDark] = useState(() => window.matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const media = window.matchMedia("(prefers-color-scheme: dark)");
    const onChange = (): void => setSystemDark(media.matches);
    media.addEventListener("change", onChange);
    return () => media.removeEventListener("change", onChange);
  }, []);
  const choose = (next: Theme): void => {
    apply(next);
    setTheme(next);
    try {
      if (next === "auto") localStorage.removeItem(storageKey);
      else localStorage.setItem(storageKey, next);
    } catch {
      // As above.
    }
  };
  return { theme, effective: theme === "auto" ? (systemDark ? "dark" : "light") : theme, choose };
}

/** Called before the first paint as well, so that a chosen theme does not flash. */
export function applyStoredTheme(): void {
  apply(stored());
}

function apply(theme: Theme): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

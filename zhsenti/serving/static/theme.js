// Before anything is painted: the remembered theme, or the system's. In a file of its own because app.js, a module, runs later.
"use strict";
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("zhsenti-theme");
    } catch {
      // storage is switched off: the system decides
    }
    document.documentElement.dataset.theme = chosen || (system.matches ? "dark" : "light");
  };
  system.addEventListener("change", apply);
  apply();
})();

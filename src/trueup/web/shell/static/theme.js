// Runs before the first paint, so that the page never flashes in the wrong theme. Not a module for that reason.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("trueup.theme");
  } catch {
    // Storage is switched off in this browser: the system's own setting holds.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();

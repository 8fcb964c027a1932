// Runs before the first paint, so that a chosen theme does not flash. Without it the system's preference holds.
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be blocked: the system's preference holds.
}
document.documentElement.classList.add("has-js");

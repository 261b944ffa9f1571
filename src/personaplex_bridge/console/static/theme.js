// Light, dark, or as the system has it. A plain script in the head: before anything is painted.
(() => {
  const root = document.documentElement;
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  const SAID = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
  const read = () => {
    try {
      return NEXT[localStorage.getItem("theme")] ? localStorage.getItem("theme") : "auto";
    } catch {
      return "auto"; // no storage here
    }
  };
  const show = (theme) => {
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.title = SAID[theme];
      button.setAttribute("aria-label", `${SAID[theme]}. Change it`);
    }
    window.dispatchEvent(new Event("themechange"));
  };
  show(read());
  document.addEventListener("DOMContentLoaded", () => {
    show(read());
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.addEventListener("click", () => {
        const theme = NEXT[root.dataset.theme];
        try {
          localStorage.setItem("theme", theme);
        } catch {
          // it lasts for this page only
        }
        show(theme);
      });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(read()));
})();

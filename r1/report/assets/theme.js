// Colours of the page, light or dark, and the one name that the page's scripts share.
"use strict";
const R1 = {};
{
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  // Resolves light-dark() and var(): a custom property's own computed value is the text as it stands.
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;

  R1.onTheme = [];
  R1.isDark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";

  // The value of the style sheet's --NAME; where there is none, of the run colour with the same number.
  R1.color = (name) => {
    probe.style.color = `var(--${name}, var(--run-${Number(name.split("-").pop()) % 8 || 0}))`;
    return getComputedStyle(probe).color;
  };

  // theme: "light", "dark", or undefined for what the system prefers.
  R1.setTheme = (theme) => {
    if (theme === undefined) delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = R1.isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${R1.isDark() ? "light" : "dark"} colours`);
    for (const call of R1.onTheme) call();
  };

  // Storage may be forbidden, for a file in a sandbox say; the choice then lasts as long as the page.
  const stored = (action) => {
    try {
      return action(window.localStorage);
    } catch (error) {
      if (error.name !== "SecurityError") throw error;
      return null;
    }
  };
  button.addEventListener("click", () => {
    const theme = R1.isDark() ? "light" : "dark";
    stored((storage) => storage.setItem("r1-theme", theme));
    R1.setTheme(theme);
  });
  prefersDark.addEventListener("change", () => R1.setTheme(root.dataset.theme));
  R1.setTheme(stored((storage) => storage.getItem("r1-theme")) ?? undefined);
}

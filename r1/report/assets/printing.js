// Printing: light colours, and figures as wide as half of a page. Folded thinking stays as it is on the screen.
"use strict";
{
  const HALF_PAGE = { width: 315, height: 200, autosize: false }; // of A4 and Letter with margins of 12 mm, in CSS pixels
  let theme;
  window.addEventListener("beforeprint", () => {
    theme = document.documentElement.dataset.theme;
    R1.setTheme("light");
    R1.drawNow(HALF_PAGE);
  });
  window.addEventListener("afterprint", () => {
    R1.setTheme(theme);
    R1.drawNow(null);
  });
  document.getElementById("print").addEventListener("click", () => window.print());
}

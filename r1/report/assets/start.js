// A report that was made once: everything is in the page.
"use strict";
R1.showFigures(JSON.parse(document.getElementById("figures").textContent));
R1.filterSamples();

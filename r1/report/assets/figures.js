// The figures: a card for each, drawn by plotly in the colours of the style sheet. Texts only go in as textContent.
"use strict";
{
  const cards = new Map(); // key -> {figure, card, plot, note, values, isDrawn}
  const hiddenRuns = new Set();
  let size = null; // {width, height} while the page is printed
  let generation = 0; // of the drawing that goes on

  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const painted = (trace) => {
    const color = R1.color(trace.meta.color);
    const copy = { ...trace };
    if (trace.type === "bar") copy.marker = { ...trace.marker, color };
    else {
      copy.line = { ...trace.line, color };
      copy.marker = { ...trace.marker, color, line: { ...trace.marker?.line, color: R1.color("card") } };
    }
    if (trace.error_y) copy.error_y = { ...trace.error_y, color };
    if (hiddenRuns.has(trace.meta.run)) copy.visible = false;
    return copy;
  };

  const layoutOf = (figure) => {
    const [text, grid, edge, card] = ["text", "grid", "edge", "card"].map(R1.color);
    const axis = { gridcolor: grid, linecolor: edge, zeroline: false, automargin: true, tickcolor: edge };
    const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)" };
    const hoverlabel = { bgcolor: card, bordercolor: edge, font: { color: text, size: 12 }, namelength: -1 };
    return {
      ...figure.layout,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: text },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 46, r: 14, t: 10, b: 36 },
      height: figure.layout.showlegend ? 285 : 250,
      xaxis: { ...axis, ...figure.layout.xaxis, title: { ...figure.layout.xaxis.title, standoff: 6 } },
      yaxis: { ...axis, ...figure.layout.yaxis },
      legend,
      hoverlabel,
      uirevision: "keep", // zoom and legend clicks outlast new data
      ...size,
    };
  };

  const config = {
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d"],
  };

  const draw = (entry) => {
    const { figure, plot } = entry;
    const draws = entry.isDrawn ? Plotly.react : Plotly.newPlot;
    entry.isDrawn = true;
    const toImageButtonOptions = { filename: figure.key.replace(/[^\w-]/g, "-"), scale: 2 };
    draws(plot, figure.data.map(painted), layoutOf(figure), { ...config, toImageButtonOptions });
  };

  // Folded figures have no width yet; they are drawn when they are unfolded.
  const isFolded = (entry) => entry.card.closest("details:not([open])") !== null;

  // One figure at a time, so that the page answers in between.
  const drawAll = () => {
    const mine = ++generation;
    delete document.documentElement.dataset.drawn;
    const waiting = [...cards.values()].filter((entry) => !isFolded(entry));
    const next = () => {
      if (mine !== generation) return; // a later drawing has begun
      if (waiting.length === 0) document.documentElement.dataset.drawn = "yes";
      else {
        draw(waiting.shift());
        setTimeout(next);
      }
    };
    next();
  };

  R1.drawNow = (newSize) => {
    generation++;
    size = newSize;
    for (const entry of cards.values()) if (!isFolded(entry)) draw(entry);
    document.documentElement.dataset.drawn = "yes";
  };

  const newEntry = (figure) => {
    const card = make("figure", "figure");
    const entry = { figure, card, plot: make("div", "plot"), notes: make("div"), values: make("details"), isDrawn: false };
    card.dataset.key = figure.key;
    const caption = make("figcaption");
    caption.append(make("h3", "", figure.title), make("p", "tells", figure.tells));
    entry.plot.setAttribute("role", "img");
    entry.plot.setAttribute("aria-label", `${figure.title}; its values are in the table below`);
    entry.values.append(make("summary", "", "values"));
    entry.values.addEventListener("toggle", () => fillValues(entry));
    card.append(caption, entry.plot, entry.notes, entry.values);
    return entry;
  };

  // A row a step, a column a line: for those who cannot hover, and for copying.
  const fillValues = (entry) => {
    entry.values.querySelector(".scroll")?.remove();
    if (!entry.values.open) return;
    const traces = entry.figure.data.filter((trace) => trace.hoverinfo !== "skip");
    const rows = new Map();
    traces.forEach((trace, column) =>
      trace.x.forEach((x, i) => {
        if (!rows.has(x)) rows.set(x, []);
        rows.get(x)[column] = trace.y[i];
      }),
    );
    const table = make("table");
    const head = table.createTHead().insertRow();
    head.append(...["step", ...traces.map((trace) => trace.meta.label)].map((name) => make("th", "", name)));
    const inOrder = [...rows].sort(([a], [b]) => (typeof a === "number" ? a - b : 0));
    const body = table.createTBody();
    for (const [x, values] of inOrder) {
      const row = body.insertRow();
      row.append(make("th", "", x), ...traces.map((_, column) => make("td", "", values[column] ?? "")));
    }
    const box = make("div", "scroll");
    box.tabIndex = 0;
    box.append(table);
    entry.values.append(box);
  };

  // Put these figures into their sections, in this order, and draw them; figures that are there already keep their place.
  R1.showFigures = (figures) => {
    const keys = new Set(figures.map((figure) => figure.key));
    for (const [key, entry] of cards) {
      if (keys.has(key)) continue;
      Plotly.purge(entry.plot);
      entry.card.remove();
      cards.delete(key);
    }
    for (const figure of figures) {
      if (!cards.has(figure.key)) cards.set(figure.key, newEntry(figure));
      const entry = cards.get(figure.key);
      entry.figure = figure;
      entry.notes.replaceChildren(...figure.notes.map((note) => make("p", "note", note)));
      fillValues(entry);
    }
    for (const box of document.querySelectorAll(".figures")) {
      const inside = figures.filter((figure) => figure.section === box.dataset.section).map((figure) => cards.get(figure.key).card);
      inside.forEach((card, i) => {
        if (box.children[i] !== card) box.insertBefore(card, box.children[i] ?? null);
      });
      const section = box.closest("section");
      const isEmpty = inside.length === 0 && !section.querySelector("[data-slot] > *");
      section.hidden = isEmpty;
      document.querySelector(`nav a[href="#${section.id}"]`).parentElement.hidden = isEmpty;
      const fold = box.closest("details");
      if (fold) fold.hidden = inside.length === 0;
    }
    drawAll();
  };

  R1.markRuns = () => {
    for (const button of document.querySelectorAll("button[data-run]"))
      button.setAttribute("aria-pressed", String(!hiddenRuns.has(Number(button.dataset.run))));
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-run]");
    if (!button) return;
    const run = Number(button.dataset.run);
    if (!hiddenRuns.delete(run)) hiddenRuns.add(run);
    R1.markRuns();
    drawAll();
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.open && event.target.querySelector(".figures")) drawAll();
  }, true);
  R1.onTheme.push(drawAll);
}

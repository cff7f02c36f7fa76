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

  // Whether the reader has switched a trace off, with the page's switch of its run or with an entry of its figure's legend.
  const isHidden = ({ run, line }, { hidden }) =>
    hiddenRuns.has(run) || hidden.some((entry) => (entry.run === undefined ? entry.line === line : entry.run === run));

  const painted = (trace) => {
    const color = R1.color(trace.meta.color);
    const copy = { ...trace };
    if (trace.type === "bar") copy.marker = { ...trace.marker, color };
    else {
      copy.line = { ...trace.line, color };
      copy.marker = { ...trace.marker, color, line: { ...trace.marker?.line, color: R1.color("card") } };
    }
    if (trace.error_y) copy.error_y = { ...trace.error_y, color };
    return copy;
  };

  const layoutOf = (figure) => {
    const [text, grid, edge, card] = ["text", "grid", "edge", "card"].map(R1.color);
    const axis = { gridcolor: grid, linecolor: edge, zeroline: false, automargin: true, tickcolor: edge };
    const hoverlabel = { bgcolor: card, bordercolor: edge, font: { color: text, size: 12 }, namelength: -1 };
    return {
      ...figure.layout,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: text },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 46, r: 14, t: 12, b: 36 },
      height: 250,
      xaxis: { ...axis, ...figure.layout.xaxis, title: { ...figure.layout.xaxis.title, standoff: 6, font: { size: 12 } } },
      yaxis: { ...axis, ...figure.layout.yaxis },
      modebar: { bgcolor: card, color: R1.color("muted"), activecolor: R1.color("accent") },
      hoverlabel,
      uirevision: "keep", // zoom and legend clicks outlast new data
      ...size,
    };
  };

  const tracesOf = (entry) =>
    entry.figure.data.map((trace) => ({ ...painted(trace), visible: !isHidden(trace.meta, entry) }));

  // Named one by one: among plotly's own is one that sends the figure to its makers' cloud.
  const BUTTONS = ["zoom2d", "pan2d", "resetScale2d"];
  // An SVG, for papers; with title and legend, which the page shows outside of the plot.
  const saveButton = (entry) => ({
    name: "save",
    title: "Save as SVG",
    icon: Plotly.Icons.camera,
    click: () => {
      const { figure } = entry;
      const layout = { ...layoutOf(figure), title: { text: figure.layout.meta.title }, margin: {}, width: 800, height: 450 };
      layout.showlegend = figure.legend.length > 0;
      layout.paper_bgcolor = layout.plot_bgcolor = R1.color("card");
      const options = { format: "svg", width: 800, height: 450, filename: figure.key.replace(/[^\w-]/g, "-") };
      return Plotly.downloadImage({ data: tracesOf(entry), layout }, options);
    },
  });

  const config = {
    displaylogo: false,
    displayModeBar: "hover",
    responsive: true,
    showSendToCloud: false,
    plotlyServerURL: "",
  };

  const draw = (entry) => {
    const { figure, plot } = entry;
    const draws = entry.isDrawn ? Plotly.react : Plotly.newPlot;
    entry.isDrawn = true;
    // The same object each time: for another one plotly would begin anew, and forget the zoom.
    entry.config ??= { ...config, modeBarButtons: [[saveButton(entry), ...BUTTONS]] };
    draws(plot, tracesOf(entry), layoutOf(figure), entry.config);
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
    // Not at once: plotly 4.1.1 never returns when a figure is drawn again in the same turn with another size, as for printing.
    setTimeout(next);
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
    entry.legend = make("ul", "legend");
    entry.hidden = []; // entries of the legend that are switched off
    card.dataset.key = figure.key;
    const caption = make("figcaption");
    caption.append(make("h3", "", figure.title), make("p", "tells", figure.tells));
    entry.plot.setAttribute("role", "img");
    entry.plot.setAttribute("aria-label", `${figure.title}; its values are in the table below`);
    entry.values.append(make("summary", "", "values"));
    entry.values.addEventListener("toggle", () => fillValues(entry));
    card.append(caption, entry.legend, entry.plot, entry.notes, entry.values);
    return entry;
  };

  const fillLegend = (entry) => {
    const { figure, legend } = entry;
    const names = figure.legend.map(({ label }) => label).join("\n");
    if (legend.dataset.names === names) return; // the button that was just pressed keeps the focus
    legend.dataset.names = names;
    entry.hidden = [];
    legend.replaceChildren(...figure.legend.map((part) => {
      const button = make("button", `look ${part.look}`, part.label);
      button.type = "button";
      button.style.setProperty("--swatch", `var(--${part.color})`);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const isShown = entry.hidden.includes(part);
        entry.hidden = isShown ? entry.hidden.filter((other) => other !== part) : [...entry.hidden, part];
        button.setAttribute("aria-pressed", String(isShown));
        draw(entry);
      });
      const item = make("li");
      item.append(button);
      return item;
    }));
  };

  // A row a step (or what else is along the axis), a column a line: for those who cannot hover, and for copying.
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
    head.append(...[entry.figure.layout.xaxis.title.text, ...traces.map((trace) => trace.meta.label)].map((name) => make("th", "", name)));
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
      fillLegend(entry);
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

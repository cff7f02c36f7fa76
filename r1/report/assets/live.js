// The live page: asks its server every few seconds what is new, and puts it where the old was.
"use strict";
{
  const POLL_MS = 2000;
  const live = document.getElementById("live");
  const list = document.getElementById("sample-list");
  const shown = new Map(); // slot or sample key -> the HTML that is shown
  let version = "";
  let state = null; // the server's last answer
  let answeredAt = 0; // performance.now() of it
  let problem = "";

  const ago = (seconds) => {
    if (seconds < 90) return `${Math.round(seconds)} s ago`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
  };

  const say = () => {
    const since = (performance.now() - answeredAt) / 1000;
    live.classList.toggle("lost", problem !== "");
    live.classList.toggle("over", problem === "" && state !== null && state.is_over);
    if (problem) live.textContent = state ? `${problem}, last heard of it ${ago(since)}` : problem;
    else if (state) {
      const of = state.num_steps ? ` of ${state.num_steps}` : "";
      const when = state.age_s === null ? "" : `, ${ago(state.age_s + since)}`;
      live.textContent = `${state.is_over ? "ended, " : ""}last step ${state.last_step}${of}${when}`;
    }
  };

  const showSamples = (samples) => {
    const keys = new Set(samples.map((sample) => sample.key));
    for (const section of [...list.children]) if (!keys.has(section.dataset.key)) section.remove();
    samples.forEach(({ key, html }, i) => {
      let section = [...list.children].find((child) => child.dataset.key === key);
      if (!section || shown.get(key) !== html) {
        const box = document.createElement("div");
        if (section) box.append(section);
        R1.replaceContent(box, html);
        section = box.firstElementChild;
        shown.set(key, html);
      }
      if (list.children[i] !== section) list.insertBefore(section, list.children[i] ?? null);
    });
    R1.filterSamples();
  };

  const show = (content) => {
    document.title = `${content.title} - r1`;
    for (const [name, html] of Object.entries(content.slots)) {
      if (shown.get(name) === html) continue;
      shown.set(name, html);
      R1.replaceContent(document.querySelector(`[data-slot="${name}"]`), html);
    }
    R1.markRuns();
    R1.showFigures(content.figures);
    showSamples(content.samples);
  };

  // The server's state; null, and `problem` says why, when it cannot be had.
  const ask = async () => {
    try {
      const answer = await fetch(`data.json?have=${encodeURIComponent(version)}`, { cache: "no-store" });
      if (answer.ok) return await answer.json();
      problem = `the server answered ${answer.status}`;
    } catch (error) {
      // What fetch throws when nobody answers, and what a connection that ends too early leaves of the JSON.
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
      problem = "not reachable";
    }
    return null;
  };

  const poll = async () => {
    const answer = await ask();
    if (answer) {
      state = answer;
      answeredAt = performance.now();
      problem = state.problem ?? "";
      if (state.content) {
        show(state.content);
        version = state.version;
      }
    }
    say();
    setTimeout(poll, POLL_MS);
  };
  setInterval(say, 1000);
  poll();
}

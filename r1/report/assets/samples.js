// The text filter over the samples: a plain piece of text, upper and lower case alike.
"use strict";
{
  const input = document.getElementById("filter");
  const found = document.getElementById("found");
  const opened = new Set(); // folds that the filter has opened, to fold them again with it
  const MAX_MARKS = 2000; // marks beyond this cost more than they show

  const marksIn = (sample, wanted) => {
    const ranges = [];
    const walker = document.createTreeWalker(sample, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.toLowerCase();
      // Some letters change their length with their case: their positions would be off.
      if (text.length !== walker.currentNode.data.length) continue;
      for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, at + wanted.length);
        ranges.push(range);
      }
    }
    return ranges;
  };

  R1.filterSamples = () => {
    const wanted = input.value.toLowerCase();
    const samples = [...document.querySelectorAll(".sample")];
    const marks = [];
    for (const fold of opened) fold.open = false;
    opened.clear();
    let count = 0;
    for (const sample of samples) {
      sample.hidden = !sample.textContent.toLowerCase().includes(wanted);
      count += !sample.hidden;
      if (wanted && !sample.hidden && marks.length < MAX_MARKS) marks.push(...marksIn(sample, wanted));
    }
    for (const range of marks) {
      const fold = range.startContainer.parentElement.closest("details:not([open])");
      if (fold && !range.startContainer.parentElement.closest("summary")) {
        fold.open = true;
        opened.add(fold);
      }
    }
    for (const step of document.querySelectorAll(".step")) step.hidden = !step.querySelector(".sample:not([hidden])");
    found.textContent = wanted ? `${count} of ${samples.length} samples` : `${samples.length} samples`;
    if (window.CSS?.highlights) CSS.highlights.set("found", new Highlight(...marks));
    const section = document.getElementById("samples");
    section.hidden = samples.length === 0;
    document.querySelector('nav a[href="#samples"]').parentElement.hidden = samples.length === 0;
  };
  input.addEventListener("input", R1.filterSamples);
}

// Parts that open on demand: all at once, and as they were after their HTML has been replaced.
"use strict";
{
  const ofSamples = () => document.querySelectorAll("#sample-list details");
  document.getElementById("unfold").addEventListener("click", () => {
    for (const fold of ofSamples()) fold.open = true;
  });
  document.getElementById("fold").addEventListener("click", () => {
    for (const fold of ofSamples()) fold.open = false;
  });

  // Replace what is inside `box` by HTML of the server, whose every text is escaped.
  R1.replaceContent = (box, html) => {
    const opened = new Set([...box.querySelectorAll("details[open]")].map((fold) => fold.dataset.fold));
    box.innerHTML = html;
    for (const fold of box.querySelectorAll("details")) fold.open = opened.has(fold.dataset.fold);
  };

  // The list of contents says where the reader is.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (changes) => {
      for (const change of changes) {
        const link = links.get(change.target.id);
        if (change.isIntersecting) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    },
    { rootMargin: "-25% 0px -74% 0px" },
  );
  for (const id of links.keys()) seen.observe(document.getElementById(id));
}

// The controls, the list, the legend; then the first look.

const LISTED = 60;

function listed() {
  const until = FINDING ? FINDING.at : LAST;
  const kept = [];
  const routine = new Set(), acknowledged = new Set();
  // Backwards: of routine ones only the last of their kind on a board before something weightier.
  for (const mark of marks.filter((mark) => mark.at <= until).reverse()) {
    if (mark.weight > 1) routine.clear();
    else if (mark.kind === "ack") {
      // The last thing that a client was told is what counts.
      if (acknowledged.has(mark.label)) continue;
      acknowledged.add(mark.label);
    } else {
      const kind = `${mark.board} ${mark.kind} ${mark.label}`;
      if (routine.has(kind) || mark.kind === "kept" || mark.kind === "suspect") continue;
      routine.add(kind);
    }
    kept.push(mark);
    if (kept.length === LISTED) break;
  }
  return kept.reverse();
}

function item(mark, pinned) {
  const entry = document.createElement("li"), time = document.createElement("time"), who = document.createElement("b");
  time.textContent = seconds(mark.at);
  who.textContent = nameOf(mark.board);
  entry.append(time, who, mark.text);
  entry.tabIndex = 0;
  entry.className = pinned ? "pin" : mark.kind === "fault" ? "fault" : mark.weight > 2 ? "weighty" : "";
  const go = () => {
    const span = Math.min(view.to - view.from, 10 * SECOND);
    hover.held = false;
    hover.at = mark.at;
    hover.lane = lanes.findIndex((lane) => lane.board === mark.board);
    look(mark.at - span / 2, mark.at + span / 2);
    if (hover.lane >= 0) element("scroll").scrollTop = Math.max(0, lanes[hover.lane].top - 80);
  };
  entry.addEventListener("click", go);
  entry.addEventListener("keydown", (event) => event.key === "Enter" && go());
  return entry;
}

function fillList() {
  const all = listed();
  element("listed").textContent = FINDING ? `The last ${all.length} events before it broke` : `The last ${all.length} events`;
  element("list").append(...all.map((mark) => item(mark, false)));
  if (FINDING) {
    element("list").append(item({ ...FINDING, text: `${FINDING.rule}: ${FINDING.text}` }, true));
  }
  element("list").scrollTop = element("list").scrollHeight;
}

function fillLegend() {
  const solid = (colour) => (pen) => { pen.fillStyle = colour; pen.fillRect(0, 0, 26, 11); };
  const striped = (colour, step) => (pen) => { hatch(pen, 0, 0, 26, 11, colour, step); pen.strokeStyle = colour; pen.strokeRect(0.5, 0.5, 25, 10); };
  const both = (first, second) => (pen) => { first(pen); second(pen); };
  const mark = (kind) => (pen) => shape(pen, kind, 13, 5.5, 5);
  const entries = [
    [solid("#123f78"), "master"], [striped("#123f78", 5), "still counted on as master"],
    [solid("#bcd3ee"), "voter: decides who is master"], [both(solid("#5a626d"), striped("#7d8691", 7)), "process off"],
    [striped("#5f3f00", 4), "paused"], [striped("#8a4fbf", 8), "isolated"], [striped(PIN, 4), "must keep silent after a restart"],
    [solid(SERVICES[0]), "service runs"], [solid(SERVICES[0] + "33"), "to run it, or its standby"],
    [striped(SERVICES[0], 4), "has promised it to another board"],
    [both(solid(SIDES[0]), (pen) => { pen.fillStyle = SIDES[1]; pen.fillRect(13, 0, 13, 11); }), "sides of a partition"],
    [solid("#e6dccb"), "other fault"], [mark("master"), "reigns"], [mark("takes"), "takes over"],
    [mark("down"), "taken for dead"], [mark("ack"), "routine"],
  ];
  for (const [paint, text] of entries) {
    const entry = document.createElement("span"), canvas = document.createElement("canvas");
    canvas.width = 26;
    canvas.height = 11;
    paint(canvas.getContext("2d"));
    entry.append(canvas, text);
    element("legend").append(entry);
  }
  const note = [`Term: counts reigns. Epoch (e): counts rights to run a service. Messages from ${seconds(HEAD.messagesSince, 1)} s on.`];
  if (HEAD.leftOut.length > 0) note.push(`Left out to keep this file small: ${HEAD.leftOut.join(", ")}.`);
  element("note").textContent = note.join(" ");
}

function lookBefore() {
  const at = FINDING ? FINDING.at : HEAD.ended;
  // Up to where the promises last that the finding speaks of, if that is not far.
  const until = Math.max(at, ...(FINDING?.until ?? []).filter((until) => until < at + 6 * SECOND));
  look(Math.max(0, at - BEFORE), until + 2 * SECOND);
}

function zoom(factor, at) {
  look(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

function listen() {
  const canvas = element("lanes");
  let drag = null;
  canvas.addEventListener("wheel", (event) => {
    if (event.shiftKey) return;
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.0015), Math.max(toTime(event.offsetX), view.from));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, from: view.from, to: view.to, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return point(event);
    const by = (event.clientX - drag.x) / (width() - LEFT) * (drag.to - drag.from);
    drag.moved ||= Math.abs(event.clientX - drag.x) > 3;
    if (drag.moved) look(drag.from - by, drag.to - by);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) {
      hover.held = false;
      point(event);
      hover.held = hover.at !== null;
    }
    drag = null;
  });
  canvas.addEventListener("pointerleave", () => { if (!hover.held && !drag) forget(); });
  element("overview").addEventListener("click", (event) => {
    const at = (event.offsetX - LEFT) / (element("overview").clientWidth - LEFT) * LAST, span = view.to - view.from;
    look(at - span / 2, at + span / 2);
  });
  window.addEventListener("resize", draw);
  window.addEventListener("keydown", (event) => {
    const span = view.to - view.from, middle = view.from + span / 2;
    const moves = {
      ArrowLeft: () => look(view.from - span / 5, view.to - span / 5),
      ArrowRight: () => look(view.from + span / 5, view.to + span / 5),
      "+": () => zoom(0.7, middle), "=": () => zoom(0.7, middle), "-": () => zoom(1.4, middle),
      Home: () => look(0, LAST), End: lookBefore, Escape: forget,
    };
    if (moves[event.key]) {
      event.preventDefault();
      moves[event.key]();
    }
  });
  element("whole").addEventListener("click", () => look(0, LAST));
  element("before").addEventListener("click", lookBefore);
  element("probes").addEventListener("change", draw);
  element("copy").addEventListener("click", copy);
}

// Pages from a file may not be allowed to write to the clipboard: then the line is selected.
function copy() {
  const range = document.createRange();
  range.selectNodeContents(element("replay"));
  window.getSelection().removeAllRanges();
  window.getSelection().addRange(range);
  const say = (text) => { element("copy").textContent = text; };
  const fallBack = () => say(document.execCommand("copy") ? "copied" : "press Ctrl+C");
  if (!navigator.clipboard) return fallBack();
  navigator.clipboard.writeText(element("replay").textContent).then(() => say("copied"), fallBack);
}

element("head").className = element("state").textContent;
element("before").textContent = FINDING ? "before the violation" : "the last seconds";
fillList();
fillLegend();
listen();
if (FINDING) lookBefore();
else look(0, LAST);

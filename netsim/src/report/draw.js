// The picture: lanes, bands, marks, the pinned violation.

const INK = "#1b1f24", PALE = "#4d5663", RULE = "#d4d9e0", PIN = "#b3003c";
// Told apart by lightness and pattern as well as by hue.
const SERVICES = ["#0a6e7c", "#8a4fbf", "#9a6a00", "#2e5fa8", "#a8456f", "#4a7a1e"];
const SIDES = ["#f2c14e", "#8ecae6", "#d9a5e0", "#b7d77a", "#f4a582"];
const SHAPES = {
  boot: "up", gone: "cross", pause: "square", fault: "diamond", runs: "up", ends: "square", ack: "dot",
  kept: "dot", up: "dot", suspect: "dot", follow: "dot", down: "down", master: "star", stepped: "star",
  takes: "diamond", appointed: "diamond", protected: "dot", table: "square", vote: "dot", isolated: "square",
};
const COLOURS = {
  gone: PIN, fault: "#8a5a00", runs: "#0a6e7c", ends: "#0a6e7c", ack: "#7a8694", kept: "#7a8694",
  down: PIN, master: "#123f78", stepped: "#7a8694", takes: "#8a4fbf", appointed: "#8a4fbf",
  table: "#123f78", vote: "#2e5fa8",
};

let pen = null;
let drawn = [];

function surface(canvas, height) {
  const ratio = window.devicePixelRatio || 1, across = canvas.clientWidth;
  canvas.style.height = height + "px";
  canvas.width = Math.round(across * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  context.textBaseline = "middle";
  return context;
}

function hatch(context, x, y, w, h, colour, step = 6) {
  context.save();
  context.beginPath();
  context.rect(x, y, w, h);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1.2;
  context.beginPath();
  for (let at = x - h - (x % step); at < x + w; at += step) {
    context.moveTo(at, y + h);
    context.lineTo(at + h, y);
  }
  context.stroke();
  context.restore();
}

// Text inside of a box, if there is room for some of it.
function label(context, text, x, y, w, colour) {
  if (w < 18) return;
  let shown = text;
  const fits = Math.floor((w - 6) / 5.6);
  if (shown.length > fits) shown = fits < 3 ? "" : shown.slice(0, fits - 1) + "…";
  context.save();
  context.beginPath();
  context.rect(x, y - 8, w, 16);
  context.clip();
  context.fillStyle = colour;
  context.fillText(shown, x + 3, y + 0.5);
  context.restore();
}

// A band's box: its left edge and width on the screen, or none if it is not in view.
function box(from, to) {
  const left = Math.max(toX(from), LEFT), right = Math.min(toX(to), width());
  return right < LEFT || left > width() || right < left ? null : [left, Math.max(right - left, 1.5)];
}

function band(from, to, y, h, text, paint) {
  const place = box(from, to);
  if (!place) return;
  paint(place[0], place[1]);
  drawn.push({ x: place[0], y, w: place[1], h, text });
}

function fillBand(of, y, h, fill, ink, text = of.text) {
  band(of.from, of.to, y, h, `${text} (${seconds(of.from)} to ${of.open ? "the end" : seconds(of.to) + " s"})`, (x, w) => {
    pen.fillStyle = fill;
    pen.fillRect(x, y, w, h);
    label(pen, text, x, y + h / 2, w, ink);
  });
}

function drawFaults(lane) {
  for (const fault of lane.faults) {
    const y = lane.faultsAt + fault.row * GAP.band, h = GAP.band - 1;
    const side = parseInt(fault.key, 10);
    const splits = fault.text.startsWith("partition");
    const fill = splits ? SIDES[side % SIDES.length] : "#e6dccb";
    fillBand(fault, y, h, fill, "#3d2a00");
    if (!splits) band(fault.from, fault.to, y, h, fault.text, (x, w) => {
      pen.strokeStyle = "#a07a3a";
      pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
    });
  }
}

function drawStates(lane) {
  const y = lane.statesAt, h = GAP.state;
  const of = (kind) => lane.states.filter((band) => band.kind === kind);
  pen.fillStyle = "#eef1f5";
  const whole = box(0, HEAD.ended);
  if (whole) pen.fillRect(whole[0], y, whole[1], h);
  for (const voter of of("voter")) {
    fillBand(voter, y, h, "#bcd3ee", "#123f78", "voter");
  }
  for (const term of of("term")) {
    const place = box(term.from, term.to);
    if (!place) continue;
    const indent = of("voter").some((voter) => voter.from <= term.to && voter.to >= term.from) ? 36 : 0;
    if (place[1] > 50 + indent) label(pen, "term " + term.text, place[0] + indent, y + h / 2, place[1] - indent, PALE);
    if (toX(term.from) > LEFT) {
      pen.fillStyle = "#7a8694";
      pen.fillRect(place[0], y, 1, h);
    }
  }
  for (const master of of("master")) {
    if (master.claimed > master.to) {
      const text = `${master.text}: others may rest on it until ${seconds(master.claimed)} s`;
      band(master.to, master.claimed, y, h, text, (x, w) => {
        pen.fillStyle = "#fff";
        pen.fillRect(x, y, w, h);
        hatch(pen, x, y, w, h, "#123f78", 5);
        pen.strokeStyle = "#123f78";
        pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
      });
    }
    fillBand(master, y, h, "#123f78", "#fff");
  }
  for (const kind of ["isolated", "pause"]) for (const state of of(kind)) {
    band(state.from, state.to, y, h, state.text, (x, w) => {
      hatch(pen, x, y, w, h, kind === "pause" ? "#5f3f00" : "#8a4fbf", kind === "pause" ? 4 : 8);
      if (w < 40) return;
      pen.fillStyle = "#ffffffd9";
      pen.fillRect(x + 1, y + 1, Math.min(w - 2, state.text.length * 5.6 + 6), h - 2);
      label(pen, state.text, x, y + h / 2, w, INK);
    });
  }
  for (const silence of of("silence")) {
    band(silence.from, silence.to, y - 3, 4, silence.text, (x, w) => {
      pen.fillStyle = "#fff";
      pen.fillRect(x, y - 3, w, 4);
      hatch(pen, x, y - 3, w, 4, PIN, 4);
    });
  }
  for (const off of of("off")) {
    band(off.from, off.to, y, h, off.text, (x, w) => {
      pen.fillStyle = "#5a626d";
      pen.fillRect(x, y, w, h);
      hatch(pen, x, y, w, h, "#7d8691", 7);
      label(pen, "off: " + off.text, x, y + h / 2, w, "#fff");
    });
  }
}

// Where in a band there is room for its text, beside what is drawn over it.
function gap(of, over) {
  let from = Math.max(of.from, view.from), to = of.to;
  for (const run of over) {
    if (run.from <= from && run.to > from) from = run.to;
    else if (run.from > from) to = Math.min(to, run.from);
  }
  return from < to ? box(from, to) : null;
}

function drawServices(lane) {
  for (const service of lane.services) {
    const colour = SERVICES[HEAD.instances.indexOf(service.name) % SERVICES.length];
    const y = service.at, h = GAP.service;
    for (const role of service.roles) {
      band(role.from, role.to, y, h, `${service.name}: ${role.text}`, (x, w) => {
        pen.fillStyle = colour + "26";
        pen.fillRect(x, y, w, h);
        const free = gap(role, service.runs);
        if (free) label(pen, `${service.name}: ${role.text}`, free[0], y + h / 2, free[1], INK);
      });
    }
    for (const run of service.runs) fillBand(run, y + 1, h - 2, colour, "#fff");
    for (const promise of service.promised) {
      const at = y + h + 1;
      band(promise.from, promise.to, at, GAP.promise, promise.text, (x, w) => {
        pen.strokeStyle = colour;
        pen.fillStyle = "#fff";
        pen.fillRect(x, at, w, GAP.promise);
        hatch(pen, x, at, w, GAP.promise, colour, 4);
        pen.strokeRect(x + 0.5, at + 0.5, w - 1, GAP.promise - 1);
      });
      // What binds the board on which the rule broke is said in the free space behind that.
      if (FINDING?.board === lane.board && promise.from <= FINDING.at && promise.to > FINDING.at) {
        const words = promise.text.replace(/^has promised/, "promised:");
        label(pen, words, toX(FINDING.at) + 2, y + h / 2, width() - toX(FINDING.at), INK);
      }
    }
  }
}

function shape(context, kind, x, y, r) {
  const how = SHAPES[kind] || "dot";
  context.fillStyle = COLOURS[kind] || INK;
  context.beginPath();
  if (how === "dot") context.arc(x, y, r * 0.75, 0, 7);
  if (how === "square") context.rect(x - r * 0.8, y - r * 0.8, r * 1.6, r * 1.6);
  const corners = {
    up: [[0, -1], [1, 0.9], [-1, 0.9]], down: [[0, 1], [1, -0.9], [-1, -0.9]],
    diamond: [[0, -1.1], [1.1, 0], [0, 1.1], [-1.1, 0]],
    cross: [[-1, -0.5], [-0.5, -1], [0, -0.4], [0.5, -1], [1, -0.5], [0.4, 0], [1, 0.5], [0.5, 1], [0, 0.4], [-0.5, 1], [-1, 0.5], [-0.4, 0]],
    star: [[0, -1.2], [0.35, -0.35], [1.2, -0.3], [0.5, 0.25], [0.75, 1.1], [0, 0.6], [-0.75, 1.1], [-0.5, 0.25], [-1.2, -0.3], [-0.35, -0.35]],
  }[how] || [];
  corners.forEach(([dx, dy], number) => context[number ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
  context.fill();
}

// Marks closer than a finger are one, shown as the weightiest of them with their number.
function drawMarks(lane) {
  const y = lane.marksAt + GAP.marks / 2, groups = [];
  for (const mark of lane.marks) {
    if (mark.at < view.from || mark.at > view.to) continue;
    const x = toX(mark.at), last = groups[groups.length - 1];
    if (last && x - last.x < 11) last.all.push(mark);
    else groups.push({ x, all: [mark] });
  }
  groups.forEach((group, number) => {
    const chief = group.all.reduce((a, b) => (b.weight > a.weight ? b : a));
    shape(pen, chief.kind, group.x, y, chief.weight === 1 ? 3.5 : 5);
    const room = (groups[number + 1]?.x ?? width()) - group.x - 14;
    const more = group.all.length > 1 ? ` +${group.all.length - 1}` : "";
    if (chief.weight > 1 || view.to - view.from < 5 * SECOND) label(pen, chief.label + more, group.x + 5, y, room, chief.weight > 2 ? INK : PALE);
    drawn.push({ x: group.x - 6, y: y - 7, w: 12, h: 14, marks: group.all });
  });
}

function drawAxis() {
  const span = view.to - view.from, wanted = span / ((width() - LEFT) / 90);
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
  const step = (steps.find((step) => step * SECOND >= wanted) || 3600) * SECOND;
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    const x = Math.round(toX(at)) + 0.5;
    pen.fillStyle = RULE;
    pen.fillRect(x, 16, 1, HEIGHT);
    pen.fillStyle = PALE;
    pen.fillText(seconds(at, step < SECOND ? 2 : 0) + " s", x + 2, 9);
  }
}

function drawEnd() {
  const end = toX(HEAD.ended);
  if (end > LEFT && end < width()) {
    pen.fillStyle = "#e3e6ea99";
    pen.fillRect(end, 18, width() - end, HEIGHT);
    if (!FINDING) label(pen, "end of the run", end + 2, 26, width() - end, PALE);
  }
}

function drawPin() {
  if (!FINDING) return;
  for (const until of FINDING.until) {
    const x = toX(until);
    if (x < LEFT || x > width()) continue;
    pen.strokeStyle = PIN;
    pen.setLineDash([4, 4]);
    pen.beginPath();
    pen.moveTo(x, 18);
    pen.lineTo(x, HEIGHT);
    pen.stroke();
    pen.setLineDash([]);
    label(pen, `until ${seconds(until)}`, x + 1, 24, width() - x, PIN);
  }
  const x = toX(FINDING.at);
  if (x < LEFT - 1 || x > width()) return;
  pen.fillStyle = PIN;
  pen.fillRect(x - 1, 0, 2.5, HEIGHT);
  const text = `${FINDING.rule}, ${seconds(FINDING.at)} s`;
  const across = pen.measureText(text).width + 10, left = Math.max(LEFT, Math.min(x - across + 2, width() - across));
  pen.fillRect(left, 0, across, 17);
  pen.fillStyle = "#fff";
  pen.fillText(text, left + 5, 9);
  const lane = FINDING.board === null ? null : laneOf(FINDING.board);
  if (lane) {
    pen.strokeStyle = PIN;
    pen.lineWidth = 2;
    pen.strokeRect(LEFT + 1, lane.top + 1, width() - LEFT - 2, lane.bottom - lane.top - 2);
    pen.lineWidth = 1;
  }
}

// What a board is at a time, for the left edge.
function standing(lane, at) {
  const now = (kind) => lane.states.find((band) => band.kind === kind && band.from <= at && at < Math.max(band.to, band.open ? LAST : 0));
  if (now("off")) return "off";
  const term = now("term"), role = now("master") ? "master" : now("voter") ? "voter" : "member";
  return `${role}${term ? ", term " + term.text : ""}`;
}

function drawEdge() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, LEFT - 1, HEIGHT);
  const at = Math.min(hover.at ?? FINDING?.at ?? view.to, HEAD.ended);
  pen.fillStyle = PALE;
  pen.fillText("at " + seconds(at, 2) + " s", 6, 9);
  for (const lane of lanes) {
    pen.fillStyle = RULE;
    pen.fillRect(0, lane.top, width(), 1);
    const broke = FINDING && FINDING.board === lane.board && lane.board !== null;
    pen.font = "bold 13px system-ui, 'DejaVu Sans', sans-serif";
    pen.fillStyle = broke ? PIN : INK;
    pen.fillText(lane.name, 6, lane.top + 13);
    pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    if (lane.board === null) continue;
    pen.fillStyle = PALE;
    pen.fillText(standing(lane, at), 6, lane.statesAt + 8);
    for (const service of lane.services) {
      pen.fillStyle = SERVICES[HEAD.instances.indexOf(service.name) % SERVICES.length];
      pen.fillRect(6, service.at + 3, 8, 8);
      label(pen, service.name, 14, service.at + 7, LEFT - 18, PALE);
    }
  }
}

function draw() {
  pen = surface(element("lanes"), HEIGHT);
  drawn = [];
  drawAxis();
  drawEnd();
  for (const lane of lanes) {
    drawFaults(lane);
    if (lane.board !== null) {
      drawStates(lane);
      drawServices(lane);
    }
    drawMarks(lane);
  }
  drawPin();
  drawEdge();
  drawMessages();
  drawOverview();
  element("span").textContent = `${seconds(view.from, 1)} to ${seconds(Math.min(view.to, HEAD.ended), 1)} s`;
}

function drawOverview() {
  const canvas = element("overview"), context = surface(canvas, 26), across = canvas.clientWidth;
  const x = (at) => LEFT + at / LAST * (across - LEFT);
  context.fillStyle = "#f3f5f8";
  context.fillRect(LEFT, 2, across, 22);
  for (const band of bands) {
    if (band.kind !== "fault" && band.kind !== "master") continue;
    const upper = band.kind === "fault";
    context.fillStyle = upper ? "#c9a86a66" : SIDES[1];
    if (!upper) context.fillStyle = ["#123f78", "#5b8ac6"][(band.board ?? 0) % 2];
    context.fillRect(x(band.from), upper ? 3 : 16, Math.max(x(band.to) - x(band.from), 1), upper ? 12 : 6);
  }
  if (FINDING) {
    context.fillStyle = PIN;
    context.fillRect(x(FINDING.at) - 1, 0, 2.5, 26);
  }
  context.strokeStyle = INK;
  context.lineWidth = 1.5;
  context.strokeRect(x(view.from), 1, Math.max(x(view.to) - x(view.from), 3), 24);
  context.fillStyle = PALE;
  context.fillText("whole run", 6, 13);
}

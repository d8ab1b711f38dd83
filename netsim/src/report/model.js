"use strict";
// What the page knows, where it stands in time, and where each lane lies. Times are microseconds.

const DATA = JSON.parse(document.getElementById("data").textContent);
const HEAD = DATA.head;
const SECOND = 1e6;
const element = (id) => document.getElementById(id);

const bands = DATA.bands.map(([board, kind, key, from, to, text, claimed]) =>
  ({ board, kind, key, from, to: to ?? HEAD.ended, open: to === null, text, claimed }));
bands.sort((a, b) => a.from - b.from);
const marks = DATA.marks.map(([at, board, kind, weight, label, text]) =>
  ({ at, board, kind, weight, label, text }));
marks.sort((a, b) => a.at - b.at);
const messages = DATA.messages.map(([from, to, sent, arrived, text, probe]) =>
  ({ from, to, sent, arrived, text, probe: probe === 1 }));
messages.sort((a, b) => a.sent - b.sent);

const FINDING = HEAD.finding;
const BEFORE = 15 * SECOND;
const AROUND = 0.5 * SECOND;
// What was promised until after the end of the run is still seen.
const LAST = HEAD.ended + 8 * SECOND;
const LEFT = 118;

const view = { from: 0, to: LAST };
const hover = { x: -1, y: -1, at: null, lane: -1, held: false };

const GAP = { above: 4, band: 12, state: 15, marks: 15, service: 14, promise: 5, below: 7 };

// Faults that overlap lie in rows of their own; what does not fit lies in the last one.
function faultRows(of) {
  const ends = [];
  for (const band of of) {
    let row = ends.findIndex((end) => end <= band.from);
    if (row < 0) row = ends.length < 3 ? ends.length : 2;
    ends[row] = Math.max(ends[row] ?? 0, band.to);
    band.row = row;
  }
  return ends.length;
}

function makeLane(board) {
  const own = bands.filter((band) => band.board === board);
  const faults = own.filter((band) => band.kind === "fault");
  const lane = { board, name: board === null ? "mesh" : HEAD.boards[board], faults };
  lane.rows = faultRows(faults);
  lane.states = own.filter((band) => ["off", "pause", "isolated", "master", "voter", "term", "silence"].includes(band.kind));
  lane.marks = marks.filter((mark) => mark.board === board);
  lane.services = HEAD.instances.map((name) => {
    const of = (kind) => own.filter((band) => band.kind === kind && band.key === name);
    const promised = own.filter((band) => band.kind === "promise" && band.key.startsWith(name + " "));
    return { name, runs: of("run"), roles: of("role"), promised };
  }).filter((service) => service.runs.length + service.roles.length + service.promised.length > 0);
  return lane;
}

const lanes = [makeLane(null), ...HEAD.boards.map((_, board) => makeLane(board))];

function placeLanes() {
  let y = 20;
  for (const lane of lanes) {
    lane.top = y;
    y += GAP.above;
    lane.faultsAt = y;
    y += lane.rows * GAP.band;
    lane.marksAt = y;
    y += GAP.marks;
    if (lane.board !== null) {
      lane.statesAt = y;
      y += GAP.state + 2;
      for (const service of lane.services) {
        service.at = y;
        y += GAP.service + (service.promised.length > 0 ? GAP.promise + 2 : 0) + 2;
      }
    }
    y += GAP.below;
    lane.bottom = y;
  }
  return y;
}

const HEIGHT = placeLanes();
const laneOf = (board) => lanes.find((lane) => lane.board === board);

const width = () => element("lanes").clientWidth;
const toX = (at) => LEFT + (at - view.from) / (view.to - view.from) * (width() - LEFT);
const toTime = (x) => view.from + (x - LEFT) / (width() - LEFT) * (view.to - view.from);

function look(from, to) {
  const span = Math.min(Math.max(to - from, 0.02 * SECOND), LAST);
  let start = from + (to - from - span) / 2;
  start = Math.min(Math.max(start, 0), LAST - span);
  view.from = start;
  view.to = start + span;
  draw();
}

// Cut off, not rounded, as everywhere else.
const seconds = (at, digits = 3) => (Math.floor(at / 10 ** (6 - digits)) / 10 ** digits).toFixed(digits);

function nameOf(board) {
  return board === null ? "" : HEAD.boards[board];
}

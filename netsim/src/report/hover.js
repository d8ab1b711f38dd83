// What is under the pointer, and the messages of that board at that time.

function messagesAt(board, at) {
  const near = (time) => time !== null && Math.abs(time - at) <= AROUND;
  const asked = element("probes").checked;
  return messages.filter((one) =>
    (!one.probe || asked) &&
    ((one.from === board && near(one.sent)) || (one.to === board && near(one.arrived))));
}

// What became of a message that did not arrive.
function fate(one) {
  if (one.arrived !== null) return `${Math.round((one.arrived - one.sent) / 1000)} ms`;
  return HEAD.ended - one.sent < 0.5 * SECOND ? "still under way" : "lost or held up";
}

function arrow(one, number) {
  const lost = one.arrived === null;
  const a = laneOf(one.from), b = laneOf(one.to);
  const from = [toX(one.sent), a.statesAt + 7];
  const to = [toX(lost ? one.sent + 0.1 * SECOND : one.arrived), b.statesAt + 7];
  // What is lost ends half-way.
  if (lost) to[1] = (from[1] + to[1]) / 2;
  if (Math.max(from[0], to[0]) < LEFT) return;
  pen.strokeStyle = pen.fillStyle = lost ? PIN : INK;
  pen.lineWidth = 1.3;
  pen.setLineDash(lost ? [4, 3] : []);
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
  pen.setLineDash([]);
  pen.lineWidth = 1;
  const turn = Math.atan2(to[1] - from[1], to[0] - from[0]);
  pen.save();
  pen.translate(...to);
  pen.rotate(turn);
  pen.beginPath();
  if (lost) {
    pen.fillRect(-1, -5, 2.5, 10);
  } else {
    pen.moveTo(1, 0);
    pen.lineTo(-8, -3.5);
    pen.lineTo(-8, 3.5);
    pen.fill();
  }
  pen.restore();
  const part = 0.3 + 0.14 * (number % 4);
  const x = from[0] + (to[0] - from[0]) * part, y = from[1] + (to[1] - from[1]) * part;
  const text = one.text.split(" ")[0], across = pen.measureText(text).width + 4;
  pen.fillStyle = "#ffffffd9";
  pen.fillRect(x - across / 2, y - 7, across, 14);
  pen.fillStyle = lost ? PIN : INK;
  pen.fillText(text, x - across / 2 + 2, y);
}

function drawMessages() {
  const lane = lanes[hover.lane];
  if (hover.at === null || !lane || lane.board === null) return;
  const shown = messagesAt(lane.board, hover.at);
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 18, width(), HEIGHT);
  pen.clip();
  pen.fillStyle = "#3b6ea81a";
  pen.fillRect(toX(hover.at - AROUND), lane.top, toX(hover.at + AROUND) - toX(hover.at - AROUND), lane.bottom - lane.top);
  shown.slice(0, 60).forEach(arrow);
  pen.restore();
}

function line(tip, text, how) {
  const paragraph = document.createElement("p");
  paragraph.textContent = text;
  if (how) paragraph.className = how;
  tip.append(paragraph);
}

function tell(event) {
  const tip = element("tip"), lane = lanes[hover.lane];
  tip.replaceChildren();
  if (hover.at === null || !lane) {
    tip.hidden = true;
    return;
  }
  const hit = drawn.filter((one) =>
    hover.x >= one.x && hover.x <= one.x + one.w && hover.y >= one.y && hover.y <= one.y + one.h);
  const under = hit.findLast((one) => one.marks);
  line(tip, `${lane.name} at ${seconds(hover.at)} s`, "small");
  for (const mark of (under?.marks ?? []).slice(0, 10)) line(tip, `${seconds(mark.at)}  ${mark.text}`);
  if ((under?.marks.length ?? 0) > 10) line(tip, `and ${under.marks.length - 10} more`, "small");
  for (const text of new Set(hit.filter((one) => one.text).map((one) => one.text))) line(tip, text);
  if (lane.board !== null) {
    if (hover.at < HEAD.messagesSince - AROUND) {
      line(tip, `messages are kept from ${seconds(HEAD.messagesSince, 1)} s on`, "small");
    }
    const shown = messagesAt(lane.board, hover.at);
    if (shown.length > 0) line(tip, "messages within 0.5 s:", "small");
    // The nearest ones, in the order of time: what one points at must not be among the "more".
    const away = (one) => Math.min(...[one.from === lane.board ? one.sent : null, one.to === lane.board ? one.arrived : null]
      .filter((time) => time !== null).map((time) => Math.abs(time - hover.at)));
    const nearest = new Set([...shown].sort((a, b) => away(a) - away(b)).slice(0, 14));
    for (const one of shown.filter((one) => nearest.has(one))) {
      const out = one.from === lane.board;
      const text = `${seconds(one.sent)} ${out ? "to" : "from"} ${nameOf(out ? one.to : one.from)}: ${one.text}, ${fate(one)}`;
      line(tip, text, one.arrived === null ? "lost" : "");
    }
    if (shown.length > 14) line(tip, `and ${shown.length - 14} more`, "small");
  }
  tip.hidden = false;
  const { innerWidth, innerHeight } = window;
  // Beside the arrows, not over them.
  const beside = Math.min(toX(hover.at + AROUND) - hover.x, innerWidth / 4);
  const left = event.clientX + beside + 16, top = event.clientY + 18;
  const other = event.clientX - beside - tip.offsetWidth - 12;
  tip.style.left = Math.max(4, left + tip.offsetWidth > innerWidth ? other : left) + "px";
  tip.style.top = Math.max(4, Math.min(top, innerHeight - tip.offsetHeight - 6)) + "px";
}

function point(event) {
  if (hover.held) return;
  const area = element("lanes").getBoundingClientRect();
  hover.x = event.clientX - area.left;
  hover.y = event.clientY - area.top;
  hover.lane = lanes.findIndex((lane) => hover.y >= lane.top && hover.y < lane.bottom);
  hover.at = hover.x >= LEFT && hover.lane >= 0 ? toTime(hover.x) : null;
  draw();
  tell(event);
}

function forget() {
  hover.held = false;
  hover.at = null;
  element("tip").hidden = true;
  draw();
}

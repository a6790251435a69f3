"use strict";
// The page of `ndzarr view`. World coordinates of OpenSeadragon are native pixels divided by the width of the image.

const $ = (id) => document.getElementById(id);
const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;
const COLORS = { positive: "#5fd38d", negative: "#ff8a5c", ignored: "#9aa3ad", target: "#7cc4ff" };
const near = (value) => Math.abs(value - Math.round(value)) < 1e-3;
const shorter = (value) => Number(value.toPrecision(6));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const panes = [];
let active = 0;
let items = [];
let beside = "";
const hidden = { classes: new Set(), kinds: new Set() };

let expected = 0; // answers and timers that will change the page, besides tiles
async function expecting(action) {
  expected += 1;
  tell();
  try {
    return await action();
  } finally {
    expected -= 1;
    setTimeout(tell); // once the answer is used
  }
}

const get = (path, query = {}) =>
  expecting(async () => {
    const response = await fetch(`${path}?${new URLSearchParams(query)}`);
    if (!response.ok) throw new Error(await response.text());
    return await (response.headers.get("Content-Type") === "application/json" ? response.json() : response.text());
  });

let quiet;
function say(text, error = false) {
  const status = $("status");
  status.textContent = text;
  status.className = error ? "shown error" : "shown";
  clearTimeout(quiet);
  quiet = setTimeout(() => (status.className = ""), error ? 8000 : 1800);
}
const complain = (error) => say(error.message, true);

/** Whether white text is easier to read on a colour than black. */
function dark(color) {
  const [r, g, b] = [1, 3, 5].map((k) => (parseInt(color.slice(k, k + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.18;
}

/** Call a function once nobody has asked for it for a while, with what was given last. */
function later(milliseconds, action) {
  let timer, done;
  return (...given) => {
    clearTimeout(timer);
    if (!done) expecting(() => new Promise((resolve) => (done = resolve)));
    timer = setTimeout(() => {
      const answer = done;
      done = null;
      answer(action(...given));
    }, milliseconds);
  };
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const described = new Map();
function describe(number) {
  if (!described.has(number)) {
    described.set(number, get(`item/${number}`).catch((error) => (described.delete(number), Promise.reject(error))));
  }
  return described.get(number);
}

// --- One image on the page.

class Pane {
  constructor() {
    this.caption = make("div", { className: "caption" });
    this.overlay = make("canvas", { className: "overlay" });
    const image = make("div", { className: "image" });
    this.element = make("div", { className: "pane" }, image, this.overlay, this.caption);
    $("panes").append(this.element);
    this.displays = new Map(); // how the channels of each item are shown
    this.shapes = { annotations: [], targets: [] };
    this.t = this.z = this.level = 0;
    this.settle = later(120, () => settle(this));
    this.osd = OpenSeadragon({
      element: image,
      drawer: "canvas",
      showNavigationControl: false,
      preserveViewport: true,
      animationTime: STILL ? 0 : 0.35,
      zoomPerScroll: 1.3,
      zoomPerClick: 2,
      minZoomImageRatio: 0.5,
      maxZoomPixelRatio: 40,
      visibilityRatio: 0.2,
      imageLoaderLimit: 6,
      timeout: 120000,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    });
    // OpenSeadragon enlarges tiles by a pixel to hide seams.
    this.osd.drawer.minimumOverlapRequired = () => !this.item || !this.crisp;
    this.osd.canvas.setAttribute("role", "application");
    this.osd.canvas.addEventListener("focus", () => activate(panes.indexOf(this)));
    this.osd.addHandler("canvas-press", () => activate(panes.indexOf(this)));
    this.osd.addHandler("canvas-key", (event) => {
      event.preventDefaultAction = !event.originalEvent.key.startsWith("Arrow");
    });
    this.osd.addHandler("canvas-click", (event) => event.quick && this.select(event.position));
    this.osd.addHandler("tile-load-failed", (event) => fetch(event.tile.getUrl()).then((r) => r.text()).then((text) => say(text, true)));
    this.osd.addHandler("update-viewport", () => this.draw());
    this.osd.addHandler("viewport-change", () => follow(this));
    this.osd.addHandler("fully-loaded-change", tell);
    this.osd.addHandler("resize", () => this.draw());
    const measure = later(40, (x, y) => this.measure(x, y));
    image.addEventListener("pointermove", (event) => measure(event.offsetX, event.offsetY));
    image.addEventListener("pointerleave", () => measure(NaN, NaN));
  }

  async open(number) {
    const item = { number, ...(await describe(number)) };
    const other = this.item?.width !== item.width || this.item?.height !== item.height;
    this.item = item;
    if (!this.displays.has(number)) this.displays.set(number, structuredClone(item.channels));
    this.t = Math.min(this.t, Math.max(0, item.times.length - 1));
    this.z = this.t || this.z ? Math.min(this.z, item.planes - 1) : item.planes >> 1;
    this.level = Math.min(this.level, this.levels - 1);
    this.selected = null;
    this.osd.canvas.setAttribute("aria-label", `${item.name}. Arrow keys move, plus and minus zoom.`);
    this.refresh();
    this.overlays();
    if (other) this.fit(true);
  }

  get channels() {
    return this.displays.get(this.item.number);
  }

  /** Levels until the image fits into a tile. */
  get levels() {
    const { width, height, tile } = this.item;
    return 1 + Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / tile)));
  }

  /** The channels that are shown, as the server reads them. */
  get show() {
    if (this.item.kind === "labels") return "0,0,1,ffffff";
    const shown = this.channels.flatMap((c, k) => (c.visible ? [`${k},${c.low},${c.high},${c.color}`] : []));
    return shown.join(";");
  }

  source() {
    const { number, tile } = this.item;
    const [width, height] = [this.item.width, this.item.height].map((n) => Math.ceil(n / 2 ** this.level));
    const maxLevel = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / tile)));
    const query = new URLSearchParams({ t: this.t, z: this.z, show: this.show });
    const source = new OpenSeadragon.TileSource({ width, height, tileSize: tile, minLevel: 0, maxLevel });
    const coarsest = this.level + maxLevel;
    source.getTileUrl = (level, x, y) => `tile/${number}/${coarsest - level}/${y}/${x}?${query}`;
    // A pixel of a coarse level covers whole pixels of the finest one, also at the border.
    source.getTileBounds = (level, x, y, isSource) => {
      const factor = 2 ** (maxLevel - level);
      const [w, h] = [[width, x], [height, y]].map(([n, k]) => Math.min(tile, Math.ceil(n / factor) - k * tile));
      const unit = factor / width;
      return isSource
        ? new OpenSeadragon.Rect(0, 0, w, h)
        : new OpenSeadragon.Rect(x * tile * unit, y * tile * unit, w * unit, h * unit);
    };
    return source;
  }

  /** Load the image anew, and show the old one until the new one is complete. */
  refresh() {
    const world = this.osd.world;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.waiting = true;
    tell();
    if (!this.show) {
      world.removeAll();
      this.shown = this.pending = null;
      this.waiting = false;
      tell();
      return;
    }
    const source = this.source();
    this.osd.addTiledImage({
      tileSource: source,
      width: (source.dimensions.x * 2 ** this.level) / this.item.width,
      success: ({ item }) => {
        if (turn !== this.turn) return world.removeItem(item);
        if (this.pending) world.removeItem(this.pending);
        this.pending = item;
        const replace = () => {
          if (this.pending !== item || !item.getFullyLoaded()) return;
          if (this.shown) world.removeItem(this.shown);
          this.shown = item;
          this.pending = null;
          this.waiting = false;
          if (!performance.getEntriesByName("first-picture").length) performance.mark("first-picture");
          tell();
        };
        item.addHandler("fully-loaded-change", replace);
        replace();
      },
      error: ({ message }) => say(message, true),
    });
    this.draw();
  }

  get busy() {
    return Boolean(this.waiting || (this.shown && !this.shown.getFullyLoaded()));
  }

  fit(immediately = STILL) {
    const ratio = this.item.height / this.item.width;
    this.osd.viewport.fitBounds(new OpenSeadragon.Rect(-0.01, -0.01, 1.02, ratio + 0.02), immediately);
  }

  /** Show one pixel of the screen for each pixel of the image, on whole pixels. */
  native() {
    const viewport = this.osd.viewport;
    viewport.zoomTo(this.item.width / (viewport.getContainerSize().x * devicePixelRatio), null, true);
    this.snap();
  }

  /** Move the image by less than a pixel, such that its pixels are whole ones of the screen, if their size allows. */
  snap() {
    const { x, y, scale } = this.place;
    const ratio = devicePixelRatio;
    if (this.crisp || scale * ratio < 0.999 || !near(scale * ratio)) return;
    const [dx, dy] = [x, y].map((n) => (n - Math.round(n * ratio) / ratio) / (scale * this.item.width));
    this.osd.viewport.panBy(new OpenSeadragon.Point(dx, dy), true);
  }

  /** Whether pixels of the image are whole ones of the screen: then the tiles fit together as they are. */
  get crisp() {
    const { x, y, scale } = this.place;
    const ratio = devicePixelRatio;
    return scale * ratio > 0.999 && near(scale * ratio) && near(x * ratio) && near(y * ratio);
  }

  /** Where the image is in the pane: x, y of its corner, and pixels of the page per native pixel. */
  get place() {
    const corner = this.osd.viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    const end = this.osd.viewport.pixelFromPoint(new OpenSeadragon.Point(1, 0), true);
    return { x: corner.x, y: corner.y, scale: (end.x - corner.x) / this.item.width };
  }

  /** The part of the image that is seen: [y start, y stop, x start, x stop] in native pixels, or null. */
  get window() {
    const { x, y, scale } = this.place;
    const size = this.osd.viewport.getContainerSize();
    const [y0, x0] = [-y / scale, -x / scale].map((n) => Math.max(0, Math.floor(n + 1e-6)));
    const y1 = Math.min(this.item.height, Math.ceil((size.y - y) / scale - 1e-6));
    const x1 = Math.min(this.item.width, Math.ceil((size.x - x) / scale - 1e-6));
    return y0 < y1 && x0 < x1 ? [y0, y1, x0, x1] : null;
  }

  /** The level whose pixels are about those of the screen. */
  get shownLevel() {
    const k = Math.floor(Math.log2(1 / (this.place.scale * devicePixelRatio)) + 1e-6);
    return clamp(k, this.level, Math.max(this.level, this.levels - 1));
  }

  /** Fetch what is drawn over the image: all of it, or, of very much, what is in the window. */
  async overlays() {
    const { number, width, height } = this.item;
    const at = { t: this.t, z: this.z };
    const of = `${number} ${this.t} ${this.z}`;
    const whole = [0, height, 0, width].join();
    for (const what of this.item.categories.length || described.targets ? ["annotations", "targets"] : []) {
      if (what === "targets" && !described.targets) continue;
      const held = this.shapes[what];
      const window = held.of === of && held.total > held.length ? this.window?.join() : whole;
      if (held.of === of && (held.window === window || held.total === held.length)) continue;
      try {
        const found = await get(`${what}/${number}`, { ...at, window: window ?? whole });
        if (of !== `${this.item.number} ${this.t} ${this.z}`) return;
        this.shapes[what] = Object.assign(found.shapes, { of, window, total: found.total, kinds: found.kinds });
      } catch (error) {
        complain(error);
      }
      this.draw();
      if (panes[active] === this) listOverlays();
    }
  }

  visible(what) {
    if (!$(`${what}-shown`).checked) return [];
    const [key, off] = what === "annotations" ? ["category", hidden.classes] : ["kind", hidden.kinds];
    return this.shapes[what].filter((shape) => !off.has(shape[key]));
  }

  draw() {
    if (!this.item) return;
    const { x, y, scale } = this.place;
    const ratio = devicePixelRatio;
    this.osd.drawer.setImageSmoothingEnabled(scale * ratio < 0.999); // rounding must not blur 1:1
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    const canvas = this.overlay;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const seen = ([bx, by, w, h]) =>
      x + bx * scale < width && y + by * scale < height && x + (bx + w) * scale > 0 && y + (by + h) * scale > 0;
    const rectangle = ([bx, by, w, h]) => pen.strokeRect(x + bx * scale, y + by * scale, w * scale, h * scale);
    for (const shape of this.visible("targets").filter((s) => seen(s.box))) {
      pen.strokeStyle = COLORS[shape.kind] ?? COLORS.target;
      pen.lineWidth = 1.5;
      pen.setLineDash(shape.kind === "positive" || shape.kind === "target" ? [] : [6, 4]);
      rectangle(shape.box);
    }
    pen.setLineDash([]);
    const shapes = this.visible("annotations").filter((s) => seen(s.box));
    const classes = new Map(this.item.categories.map((c) => [c.id, c]));
    pen.font = "11px system-ui, sans-serif";
    for (const shape of shapes) {
      const color = `#${classes.get(shape.category)?.color ?? "c8d0d8"}`;
      pen.strokeStyle = pen.fillStyle = color;
      pen.lineWidth = shape === this.selected ? 3 : 1.5;
      if (shape.rings.length) {
        pen.beginPath();
        for (const ring of shape.rings) {
          ring.forEach(([px, py], k) => pen[k ? "lineTo" : "moveTo"](x + px * scale, y + py * scale));
          pen.closePath();
        }
        pen.globalAlpha = shape === this.selected ? 0.35 : 0.14;
        pen.fill("evenodd");
        pen.globalAlpha = 1;
        pen.stroke();
      } else {
        rectangle(shape.box);
      }
      for (const [px, py] of shape.points) pen.fillRect(x + px * scale - 2, y + py * scale - 2, 4, 4);
      const name = classes.get(shape.category)?.name;
      if (name && shapes.length <= 300 && shape.box[2] * scale > 24) {
        const [left, top] = [x + shape.box[0] * scale, y + shape.box[1] * scale];
        const wide = pen.measureText(name).width + 6;
        pen.fillRect(left - 0.75, top - 14, wide, 14);
        pen.fillStyle = dark(color) ? "#ffffff" : "#101214";
        pen.fillText(name, left + 2.25, top - 3.5);
      }
    }
    const zoom = scale * ratio;
    const frame = this.item.times[this.t];
    this.caption.textContent = [
      this.item.name,
      ...(frame ? [frame] : []),
      ...(this.level ? [`levels from ${this.level}`] : []),
      `${zoom < 0.1 ? (100 * zoom).toFixed(1) : Math.round(100 * zoom)} %`,
    ].join("  ·  ");
    this.settle();
  }

  /** Select the smallest annotation under a point of the pane. */
  select(point) {
    const { x, y, scale } = this.place;
    const [px, py] = [(point.x - x) / scale, (point.y - y) / scale];
    const under = this.visible("annotations").filter(
      ({ box: [bx, by, w, h] }) => px >= bx && py >= by && px <= bx + w && py <= by + h,
    );
    this.selected = under.sort((a, b) => a.box[2] * a.box[3] - b.box[2] * b.box[3])[0] ?? null;
    this.draw();
    listSelected();
  }

  /** Write the values of the pixel under the pointer. */
  async measure(px, py) {
    const { x, y, scale } = this.place;
    const [column, row] = [Math.floor((px - x) / scale), Math.floor((py - y) / scale)];
    if (!(column >= 0 && row >= 0 && column < this.item.width && row < this.item.height)) {
      $("pointer").textContent = "";
      return;
    }
    const place = `x ${column}  y ${row}`;
    try {
      const values = await get(`values/${this.item.number}`, { t: this.t, z: this.z, y: row, x: column });
      const names = this.channels.map((c) => c.name);
      const shown = values.slice(0, 6).map((value, k) => `${names[k]} ${value}`);
      $("pointer").textContent = `${place}   ${shown.join("  ")}${values.length > 6 ? " …" : ""}`;
    } catch (error) {
      $("pointer").textContent = place;
      complain(error);
    }
  }
}

// --- Both images.

/** Say whether anything is being loaded: to screen readers, and to whoever waits for it. */
function tell() {
  $("panes").setAttribute("aria-busy", expected > 0 || panes.some((pane) => pane.busy));
}

/** How pixels of an image become those of another: by what they cover on the ground, or as if both showed the same. */
function relation(from, to) {
  const [ours, theirs] = [from.georeference, to.georeference];
  if (ours && theirs && ours.crs === theirs.crs) {
    const [[a, , c, , e, f], [A, , C, , E, F]] = [ours.transform, theirs.transform];
    if (a / A > 0 && e / E > 0) return { sx: a / A, sy: e / E, x: (c - C) / A, y: (f - F) / E };
  }
  return { sx: to.width / from.width, sy: to.width / from.width, x: 0, y: 0 };
}

let following = false;
function follow(pane) {
  const other = panes[1 - panes.indexOf(pane)];
  if (following || !pane.item || !other?.item || !$("link").checked) return;
  const [from, to] = [pane.osd.viewport, other.osd.viewport];
  const [ours, theirs] = [pane.item.width, other.item.width];
  const { sx, sy, x, y } = relation(pane.item, other.item);
  const { x: cx, y: cy } = from.getCenter(true);
  const center = new OpenSeadragon.Point((cx * ours * sx + x) / theirs, (cy * ours * sy + y) / theirs);
  const zoom = (from.getZoom(true) * theirs) / (ours * sx);
  // Panes of an even and an odd width snap to pixels half a pixel apart: they would move each other for ever.
  const pixel = 1 / (to.getContainerSize().x * zoom);
  if (Math.abs(to.getZoom(true) / zoom - 1) < 1e-6 && to.getCenter(true).distanceTo(center) < pixel) return;
  following = true;
  to.zoomTo(zoom, null, true);
  to.panTo(center, true);
  following = false;
}

/** Once the image is at rest, fetch what it lacks, and the call that loads what is seen. */
async function settle(pane) {
  if (!panes.includes(pane)) return;
  pane.snap();
  pane.overlays();
  if (pane !== panes[active]) return;
  const window = pane.window;
  if (!window || !pane.show) return;
  const query = { t: pane.t, z: pane.z, window: window.join(), k: pane.shownLevel, show: pane.show };
  try {
    $("call").textContent = await get(`call/${pane.item.number}`, query);
    $("call").scrollLeft = $("call").scrollWidth; // the window is at its end
  } catch (error) {
    complain(error);
  }
}

async function copy() {
  await navigator.clipboard.writeText($("call").textContent);
  say("Copied");
}

function activate(index) {
  if (index < 0 || index >= panes.length) return;
  const changed = active !== index;
  active = index;
  panes.forEach((pane, k) => pane.element.classList.toggle("active", k === index));
  document.querySelectorAll("[name=pane]").forEach((radio) => (radio.checked = Number(radio.value) === index));
  if (changed) listAll();
}

async function open(number) {
  await panes[0].open(number);
  if (beside === "same") await panes[1].open(number);
  listAll();
}

async function openBeside(choice) {
  beside = choice;
  if (choice === "") {
    if (panes.length > 1) {
      panes[1].osd.destroy();
      panes.pop().element.remove();
    }
  } else {
    if (panes.length < 2) panes.push(new Pane());
    await panes[1].open(choice === "same" ? panes[0].item.number : Number(choice));
    panes[1].t = panes[0].item.times.length === panes[1].item.times.length ? panes[0].t : 0;
    panes[1].refresh();
  }
  $("panes").classList.toggle("two", panes.length > 1);
  $("which").hidden = $("link-row").hidden = panes.length < 2;
  $("beside").value = beside;
  activate(Math.min(active, panes.length - 1));
  requestAnimationFrame(() => {
    panes[0].fit(true); // the panes have other sizes now
    if ($("link").checked) follow(panes[0]);
    else panes[1]?.fit(true);
  });
  listAll();
}

/** Set the frame or the plane, of both images if they have as many. */
function move(axis, value) {
  const lengths = panes.map((pane) => (axis === "t" ? pane.item.times.length : pane.item.planes));
  panes.forEach((pane, k) => {
    if (k !== active && !($("link").checked && lengths[k] === lengths[active])) return;
    const wanted = clamp(value, 0, Math.max(0, lengths[k] - 1));
    if (pane[axis] === wanted) return;
    pane[axis] = wanted;
    pane.refresh();
    pane.overlays();
  });
  listPosition();
}

let playing = false;
async function play() {
  playing = !playing && panes[active].item.times.length > 1;
  $("play").setAttribute("aria-pressed", playing);
  $("play").textContent = playing ? "❚❚" : "▶";
  while (playing) {
    const pane = panes[active];
    move("t", (pane.t + 1) % pane.item.times.length);
    const begun = performance.now();
    do await new Promise(requestAnimationFrame);
    while (playing && (panes.some((p) => p.busy) || performance.now() - begun < 80));
  }
}

// --- The settings of the active image.

function listAll() {
  const { item } = panes[active];
  document.title = `${panes[0].item.name} - ndzarr view`;
  $("title").textContent = panes[0].item.name;
  const n = item.channels.length;
  $("facts").textContent = [
    `${item.width} × ${item.height} px`,
    item.dtype,
    item.kind === "labels" ? "labels" : `${n} ${n === 1 ? "channel" : "channels"}`,
    ...(item.times.length ? [`${item.times.length} frames`] : []),
    ...(item.planes > 1 ? [`${item.planes} planes`] : []),
    ...(item.pixelSize ? [item.pixelSize] : []),
  ].join("  ·  ");
  for (const option of $("items").children) {
    if (option.dataset.number) option.setAttribute("aria-selected", Number(option.dataset.number) === panes[0].item.number);
  }
  listLevels();
  listPosition();
  listChannels();
  listOverlays();
  panes[active].draw();
}

function listLevels() {
  const pane = panes[active];
  const options = Array.from({ length: pane.levels }, (_, k) => {
    const [w, h] = [pane.item.width, pane.item.height].map((n) => Math.ceil(n / 2 ** k));
    return make("option", { value: k, textContent: `${k}:  ${w} × ${h}` });
  });
  $("level").replaceChildren(...options);
  $("level").value = pane.level;
}

function listPosition() {
  const { item, t, z } = panes[active];
  $("position").hidden = item.times.length < 2 && item.planes < 2;
  $("time-row").hidden = item.times.length < 2;
  $("plane-row").hidden = item.planes < 2;
  $("time").max = Math.max(0, item.times.length - 1);
  $("time").value = t;
  $("time").setAttribute("aria-valuetext", item.times[t] ?? "");
  $("time-name").textContent = item.times.length ? `${t + 1} / ${item.times.length}   ${item.times[t]}` : "";
  $("plane").max = item.planes - 1;
  $("plane").value = z;
  $("plane-name").textContent = `${z + 1} / ${item.planes}`;
}

const redraw = later(60, (pane) => pane.refresh());

function listChannels() {
  const pane = panes[active];
  $("channels-section").hidden = pane.item.kind === "labels";
  const whole = /^(u?int|bool)/.test(pane.item.dtype);
  const rows = pane.channels.map((channel, k) => {
    const title = channel.name;
    const shown = make("input", { type: "checkbox", checked: channel.visible, ariaLabel: `Show ${title}` });
    const color = make("input", { type: "color", value: `#${channel.color}`, ariaLabel: `Colour of ${title}` });
    const details = make("div", { hidden: !channel.visible });
    const plot = make("canvas", { width: 480, height: 60, ariaHidden: "true" });
    const step = whole ? 1 : (channel.maximum - channel.minimum) / 1000;
    const limits = make("div", { className: "limits" });
    const inputs = { low: [], high: [] };
    const set = (which, value) => {
      if (!Number.isFinite(value)) return;
      channel[which] = value;
      const [range, number] = inputs[which];
      if (Number(range.value) !== value) range.value = value;
      if (document.activeElement !== number) number.value = shorter(value);
      paint(plot, channel);
      redraw(pane);
    };
    for (const [which, word] of [["low", "Black"], ["high", "White"]]) {
      const common = { min: channel.minimum, max: channel.maximum, step: whole ? 1 : "any", value: channel[which] };
      const range = make("input", { type: "range", ...common, step, value: channel[which], ariaLabel: `${word} point of ${title}` });
      const number = make("input", { type: "number", step: common.step, value: shorter(channel[which]), ariaLabel: `${word} point of ${title}, value` });
      range.addEventListener("input", () => set(which, Number(range.value)));
      number.addEventListener("change", () => set(which, number.valueAsNumber));
      inputs[which].push(range, number);
      limits.append(range, number);
    }
    shown.addEventListener("change", () => {
      channel.visible = shown.checked;
      details.hidden = !shown.checked;
      redraw(pane);
    });
    color.addEventListener("input", () => {
      channel.color = color.value.slice(1);
      paint(plot, channel);
      redraw(pane);
    });
    details.append(plot, limits);
    paint(plot, channel);
    const name = make("label", { className: "row" }, shown, make("span", { className: "name", textContent: title }));
    name.style.flex = "1";
    return make("div", { className: "channel" }, make("div", { className: "row" }, name, color), details);
  });
  $("channels").replaceChildren(...rows);
}

/** Draw the histogram of a channel, with the limits of its contrast. */
function paint(canvas, channel) {
  const pen = canvas.getContext("2d");
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  const most = Math.log1p(Math.max(...channel.histogram, 1));
  const bin = width / channel.histogram.length;
  pen.fillStyle = `#${channel.color}`;
  pen.globalAlpha = 0.75;
  channel.histogram.forEach((n, k) => {
    const high = (Math.log1p(n) / most) * (height - 4);
    pen.fillRect(k * bin, height - high, bin - 1, high);
  });
  pen.globalAlpha = 1;
  pen.strokeStyle = "#ffffff";
  pen.lineWidth = 3;
  for (const value of [channel.low, channel.high]) {
    const x = clamp(((value - channel.minimum) / (channel.maximum - channel.minimum)) * width, 1, width - 1);
    pen.beginPath();
    pen.moveTo(x, 0);
    pen.lineTo(x, height);
    pen.stroke();
  }
}

function contrast(choose) {
  const pane = panes[active];
  pane.channels.forEach((channel, k) => Object.assign(channel, choose(pane.item.channels[k])));
  listChannels();
  pane.refresh();
}

function toggle(name, color, number, off, key, dashed) {
  const box = make("input", { type: "checkbox", checked: !off.has(key) });
  box.addEventListener("change", () => {
    off[box.checked ? "delete" : "add"](key);
    panes.forEach((pane) => pane.draw());
  });
  const swatch = make("span", { className: dashed ? "swatch dashed" : "swatch" });
  swatch.style.borderColor = color;
  return make("label", {}, box, swatch, name, make("span", { className: "number", textContent: number }));
}

function listOverlays() {
  const pane = panes[active];
  const { annotations, targets } = pane.shapes;
  $("annotations").hidden = !pane.item.categories.length;
  $("annotations-count").textContent = annotations.total > annotations.length ? `${annotations.length} of ${annotations.total}` : annotations.total ?? "";
  const counts = new Map();
  for (const shape of annotations) counts.set(shape.category, (counts.get(shape.category) ?? 0) + 1);
  const present = pane.item.categories.filter((c) => counts.has(c.id));
  $("classes").replaceChildren(...present.map((c) => toggle(c.name, `#${c.color}`, counts.get(c.id), hidden.classes, c.id)));
  $("targets").hidden = !described.targets;
  $("targets-count").textContent = targets.total > targets.length ? `${targets.length} of ${targets.total}` : targets.total ?? "";
  const kinds = Object.entries(targets.kinds ?? {});
  $("kinds").replaceChildren(
    ...kinds.map(([kind, n]) => toggle(kind, COLORS[kind] ?? COLORS.target, n, hidden.kinds, kind, kind !== "positive" && kind !== "target")),
  );
  listSelected();
}

function listSelected() {
  const pane = panes[active];
  const shape = pane.selected;
  $("selected").hidden = !shape;
  if (!shape) return;
  const name = pane.item.categories.find((c) => c.id === shape.category)?.name;
  const facts = { Class: name, Annotation: shape.id, Track: shape.track, Box: shape.box.join(", "), ...shape.further };
  const rows = Object.entries(facts).filter(([, value]) => value != null);
  $("selected").replaceChildren(
    ...rows.flatMap(([key, value]) => [make("dt", { textContent: key }), make("dd", { textContent: value })]),
  );
}

async function listItems(find = "") {
  const found = await get("items", { find });
  items = found.items;
  described.targets = found.targets;
  $("images").hidden = found.total < 2 && !find;
  $("find").hidden = found.total < 8 && !find;
  const options = items.map(({ number, name }) => {
    const option = make("div", { role: "option", textContent: name, title: name, id: `item-${number}` });
    option.dataset.number = number;
    option.setAttribute("aria-selected", number === panes[0]?.item?.number);
    option.addEventListener("click", () => choose(number));
    return option;
  });
  if (found.total > items.length) options.push(make("div", { className: "more", textContent: `and ${found.total - items.length} more: find them by name` }));
  $("items").replaceChildren(...options);
  return found;
}

function choose(number) {
  open(number).catch(complain);
  $("items").setAttribute("aria-activedescendant", `item-${number}`);
  $(`item-${number}`)?.scrollIntoView({ block: "nearest" });
}

// --- Controls.

const KEYS = {
  ",": () => move("t", panes[active].t - 1),
  ".": () => move("t", panes[active].t + 1),
  "[": () => move("z", panes[active].z - 1),
  "]": () => move("z", panes[active].z + 1),
  "0": () => $("fit").click(),
  "1": () => $("native").click(),
  "+": () => $("in").click(),
  "=": () => $("in").click(),
  "-": () => $("out").click(),
  "a": () => $("annotations-shown").click(),
  "t": () => $("targets-shown").click(),
  "c": () => $("copy").click(),
  "?": () => $("help").click(),
};

function bind() {
  const zoom = (factor) => {
    panes[active].osd.viewport.zoomBy(factor, null, STILL);
    panes[active].osd.viewport.applyConstraints(STILL);
  };
  const on = (id, event, action) => $(id).addEventListener(event, action);
  on("fit", "click", () => panes[active].fit());
  on("native", "click", () => panes[active].native());
  on("in", "click", () => zoom(2));
  on("out", "click", () => zoom(0.5));
  on("help", "click", () => $("shortcuts").showModal());
  on("copy", "click", () => copy().catch(complain));
  on("play", "click", play);
  on("time", "input", () => move("t", Number($("time").value)));
  on("plane", "input", () => move("z", Number($("plane").value)));
  on("beside", "change", () => openBeside($("beside").value).catch(complain));
  on("link", "change", () => follow(panes[active]));
  on("stretch", "click", () => contrast(({ low, high }) => ({ low, high })));
  on("full", "click", () => contrast(({ minimum, maximum }) => ({ low: minimum, high: maximum })));
  on("annotations-shown", "change", () => panes.forEach((pane) => pane.draw()));
  on("targets-shown", "change", () => panes.forEach((pane) => pane.draw()));
  on("find", "input", later(150, () => listItems($("find").value).catch(complain)));
  on("level", "change", () => {
    panes[active].level = Number($("level").value);
    panes[active].refresh();
  });
  on("items", "keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = items[items.findIndex(({ number }) => number === panes[0].item.number) + step];
    if (!step || !next) return;
    event.preventDefault();
    choose(next.number);
  });
  document.querySelectorAll("[name=pane]").forEach((radio) => radio.addEventListener("change", () => activate(Number(radio.value))));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search], input[type=number], select, dialog *");
    if (event.ctrlKey || event.metaKey || event.altKey || typing || $("shortcuts").open) return;
    const image = event.target.matches("body, .openseadragon-canvas");
    const action = event.key === " " && image ? play : KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

async function start() {
  panes.push(new Pane());
  bind();
  const found = await listItems();
  const names = items.map(({ number, name }) => make("option", { value: number, textContent: name }));
  $("beside").replaceChildren(
    make("option", { value: "", textContent: "Nothing" }),
    make("option", { value: "same", textContent: "The same image" }),
    ...names,
  );
  await open(0);
  if (found.beside !== null) {
    const last = found.beside;
    if (!names.some((option) => Number(option.value) === last)) {
      const { name } = await describe(last);
      $("beside").append(make("option", { value: last, textContent: name }));
    }
    await openBeside(String(last));
  }
}

start().catch(complain);

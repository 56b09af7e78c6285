// The viewer of a report: images under a divider, with zoom, values and profiles. It asks for nothing.
"use strict";
(() => {
  const ZOOM_STEP = 1.5;
  const ZOOM_MOST = 64;
  const NEAR = 16; // CSS pixels from the divider that still take hold of it
  const STILL = 4; // CSS pixels that a click may move
  const PAUSE = 400; // ms: a wheel that was scrolling the page a moment ago goes on doing so
  let scrolledAt = -Infinity; // ms, when the wheel last scrolled the page

  /** The values of `recon.report.values.pack`. */
  async function unpacked(values, height, width) {
    const bytes = Uint8Array.from(atob(values.packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const content = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = height * width;
    if (content.length !== 2 * count) throw new Error("the values of an image are damaged");
    const result = new Float64Array(count);
    for (let place = 0, integer = 0; place < count; place++) {
      if (place % width === 0) integer = 0;
      const folded = (content[place] << 8) | content[count + place];
      integer = (integer + ((folded >>> 1) ^ -(folded & 1))) & 0xffff;
      result[place] = values.low + values.step * integer;
    }
    return result;
  }

  const limited = (value, low, high) => Math.min(Math.max(value, low), high);

  const minus = (text) => text.replace("-", "\u2212");

  /** Four digits of a value, or fewer if the page holds it only to `step`. */
  function inWords(value, step) {
    const size = Math.abs(value);
    if (size < step / 2) return "0";
    const digits = Math.floor(Math.log10(size));
    const places = Math.min(3 - digits, Math.ceil(-Math.log10(step)));
    if (digits >= 5 || digits < -4) return minus(value.toExponential(limited(places + digits, 0, 3)));
    return minus(value.toFixed(limited(places, 0, 12)));
  }

  /** Round numbers that divide [low, high] into about `count` parts. */
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const result = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + 1e-9 * step; index++)
      result.push(index * step);
    return { places: result, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  function added(parent, name, attributes = {}, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    parent.append(element);
    return element;
  }

  /** Lines [{values, colour, width}] over the whole numbers from `first`, with a dashed line at `marked`. */
  function drawLines(svg, first, lines, marked, label) {
    const { width, height } = svg.getBoundingClientRect();
    if (!width) return;
    const box = { left: 62, right: width - 8, top: 8, bottom: height - 40 };
    const last = first + lines[0].values.length - 1;
    let low = Infinity, high = -Infinity;
    for (const { values } of lines)
      for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
    const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    low -= room; high += room;
    const x = (place) => box.left + ((place - first) / Math.max(last - first, 1)) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const vertical = ticks(low, high, 4);
    for (const value of vertical.places) {
      added(svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) });
      const size = Math.max(Math.abs(low), Math.abs(high));
      const text = size >= 1e5 || size < 1e-3 ? value.toExponential(1) : value.toFixed(vertical.digits);
      added(svg, "text", { x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, minus(text));
    }
    for (const place of ticks(first, Math.max(last, first + 1), Math.max(2, Math.min(8, width / 80))).places) {
      if (!Number.isInteger(place)) continue;
      added(svg, "line", { class: "axis", x1: x(place), x2: x(place), y1: box.bottom, y2: box.bottom + 4 });
      added(svg, "text", { x: x(place), y: box.bottom + 18, "text-anchor": "middle" }, String(place));
    }
    added(svg, "line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
    added(svg, "text", { x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, label);
    for (const { values, colour, width: stroke } of lines) {
      const points = Array.from(values, (value, index) => `${x(first + index).toFixed(1)},${y(value).toFixed(1)}`);
      added(svg, "polyline", { points: points.join(" "), "stroke-width": stroke, style: `stroke: ${colour}` });
    }
    if (marked >= first && marked <= last)
      added(svg, "line", { class: "marker", x1: x(marked), x2: x(marked), y1: box.top, y2: box.bottom });
  }

  class Viewer {
    constructor(element) {
      this.element = element;
      this.data = JSON.parse(element.querySelector("script").textContent);
      this.parts = {};
      for (const part of element.querySelectorAll("[data-part]")) this.parts[part.dataset.part] = part;
      this.canvas = element.querySelector("canvas");
      this.split = 0.5;
      this.pointers = new Map();
    }

    async start() {
      const { stack: list, stacks } = this.parts;
      this.data.stacks.forEach((stack, index) => list.add(new Option(stack.title, index)));
      stacks.hidden = this.data.stacks.length < 2;
      this.element.hidden = false;
      this.listen();
      await this.choose(0);
      new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
    }

    /** Show the stack of that number; the choice of layers stays. */
    async choose(index) {
      const stack = this.data.stacks[index];
      if (!stack.layers[0].grey) await this.load(stack);
      if (Number(this.parts.stack.value) !== index) return; // another one was chosen meanwhile
      this.stack = stack;
      const held = stack.layers.every((layer) => layer.numbers);
      for (const part of this.element.querySelectorAll("[data-values]")) part.hidden = !held;
      const still = document.getElementById(this.element.id.replace("viewer", "profiles"));
      if (still) still.hidden = held;
      this.held = held;
      for (const side of ["left", "right"]) {
        const list = this.parts[side];
        const chosen = list.options.length ? list.selectedIndex : this.data[side];
        list.replaceChildren(...stack.layers.map((layer, number) => new Option(layer.name, number)));
        list.selectedIndex = chosen;
      }
      for (const part of this.element.querySelectorAll("[data-wipe]")) part.hidden = !this.divides;
      this.reference = stack.layers.find((layer) => layer.isReference);
      this.parts.minus.hidden = !this.reference;
      this.parts.minus.textContent = this.reference ? `\u2212 ${this.reference.name}` : "";
      this.cross = { row: stack.height >> 1, column: stack.width >> 1 };
      this.parts.row.max = stack.height - 1;
      this.parts.column.max = stack.width - 1;
      this.window = [...stack.window];
      this.fit();
      this.paint();
    }

    async load(stack) {
      for (const [index, layer] of stack.layers.entries()) {
        layer.colour = `var(--line-${index % 8})`;
        layer.grey = document.createElement("canvas");
        [layer.grey.width, layer.grey.height] = [stack.width, stack.height];
        layer.still = document.getElementById(layer.picture);
        await layer.still.decode();
        if (!layer.values) continue;
        layer.step = layer.values.step;
        try {
          layer.numbers = await unpacked(layer.values, stack.height, stack.width);
        } catch (error) {
          const lost = "no read-out, no profiles";
          this.parts.trouble.textContent = `The values cannot be read here (${error.message}): ${lost}.`;
          this.parts.trouble.hidden = false;
        }
        layer.values = null; // the text is not needed twice
      }
    }

    /** Grey values from the numbers in the window of both sides, or the pictures of the page. */
    paint() {
      const [low, high] = this.window;
      for (const layer of this.stack.layers) {
        const context = layer.grey.getContext("2d");
        if (!layer.numbers) { context.drawImage(layer.still, 0, 0); continue; }
        const pixels = context.createImageData(layer.grey.width, layer.grey.height);
        const words = new Uint32Array(pixels.data.buffer);
        for (let place = 0; place < words.length; place++) {
          const grey = Math.round(limited(((layer.numbers[place] - low) / (high - low)) * 255, 0, 255));
          words[place] = 0xff000000 | (grey * 0x010101);
        }
        context.putImageData(pixels, 0, 0);
      }
      const digits = (value) => Number(value.toPrecision(4));
      [this.parts.low.value, this.parts.high.value] = [digits(low), digits(high)];
      this.draw();
    }

    get layers() {
      return [this.parts.left, this.parts.right].map((list) => this.stack.layers[list.selectedIndex]);
    }

    /** CSS pixels a pixel of the image takes, and where its top left corner is. */
    get place() {
      const scale = (this.size.width / this.stack.width) * this.zoom;
      const { width, height } = this.size;
      return { scale, left: width / 2 - this.centre.x * scale, top: height / 2 - this.centre.y * scale };
    }

    fit() {
      this.zoom = 1;
      this.centre = { x: this.stack.width / 2, y: this.stack.height / 2 };
    }

    /** Zoom by a factor with one point, in CSS pixels of the canvas, standing still. */
    zoomBy(factor, point) {
      const before = this.place;
      const x = (point.x - before.left) / before.scale, y = (point.y - before.top) / before.scale;
      this.zoom = limited(this.zoom * factor, 1, Math.max(1, Math.min(ZOOM_MOST, this.stack.width / 4)));
      const { scale } = this.place;
      const { width, height } = this.size;
      this.centre = { x: x + (width / 2 - point.x) / scale, y: y + (height / 2 - point.y) / scale };
      this.draw();
    }

    keepInside() {
      const x = this.stack.width / this.zoom / 2, y = this.stack.height / this.zoom / 2;
      this.centre.x = limited(this.centre.x, x, this.stack.width - x);
      this.centre.y = limited(this.centre.y, y, this.stack.height - y);
    }

    draw() {
      if (!this.stack) return;
      const { canvas, stack } = this;
      const width = canvas.parentElement.clientWidth;
      if (!width) return;
      const height = Math.round((width * stack.height) / stack.width);
      const dense = window.devicePixelRatio || 1;
      this.size = { width, height };
      if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
        canvas.width = Math.round(width * dense);
        canvas.height = Math.round(height * dense);
        canvas.style.height = `${height}px`;
      }
      this.keepInside();
      const context = canvas.getContext("2d");
      context.setTransform(dense, 0, 0, dense, 0, 0);
      const { scale, left, top } = this.place;
      const at = this.divides ? this.split * width : width;
      this.layers.forEach((layer, side) => {
        context.save();
        context.beginPath();
        context.rect(side ? at : 0, 0, side ? width - at : at, height);
        context.clip();
        context.imageSmoothingEnabled = scale * dense < 1;
        context.imageSmoothingQuality = "high";
        context.drawImage(layer.grey, left, top, stack.width * scale, stack.height * scale);
        context.restore();
      });
      if (this.divides) this.drawDivider(context, at, height);
      this.drawCross(context);
      this.tell();
    }

    get divides() {
      return this.stack.layers.length > 1;
    }

    drawDivider(context, at, height) {
      for (const [colour, width] of [["rgb(0 0 0 / .75)", 5], ["#fff", 3]]) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(at, 0);
        context.lineTo(at, height);
        context.stroke();
      }
    }

    drawCross(context) {
      if (!this.held) return;
      const { scale } = this.place;
      const { x, y } = this.crossPoint;
      const near = Math.max(4, scale * 0.5 + 2), far = near + 10;
      for (const [colour, width] of [["rgb(0 0 0 / .8)", 4], ["#ffd84d", 1.6]]) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.beginPath();
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(x + dx * near, y + dy * near);
          context.lineTo(x + dx * far, y + dy * far);
        }
        context.stroke();
      }
    }

    /** Everything around the image: names, zoom, values and profiles. */
    tell() {
      const [left, right] = this.layers;
      const { row, column } = this.cross;
      this.element.querySelector(".tag.left").textContent = left.name;
      this.element.querySelector(".tag.right").textContent = right.name;
      this.canvas.classList.toggle("zoomed", this.zoom > 1);
      this.parts.zoom.textContent = `\u00d7${this.zoom.toFixed(this.zoom < 10 ? 1 : 0)}`;
      this.parts.out.disabled = this.parts.fit.disabled = this.zoom === 1;
      this.parts.divider.value = Math.round(this.split * 1000);
      const share = `${Math.round(this.split * 100)} % ${left.name}, the rest ${right.name}`;
      this.parts.divider.setAttribute("aria-valuetext", share);
      const both = `${left.name} to the left of the divider, ${right.name} to the right`;
      this.canvas.setAttribute("aria-label", this.divides ? both : left.name);
      if (!this.held) return;
      this.parts.row.value = row;
      this.parts.column.value = column;
      this.readOut();
      this.profiles();
    }

    readOut() {
      const { row, column } = this.under || this.cross;
      const place = row * this.stack.width + column;
      const where = this.under ? "Under the pointer" : "At the cross";
      this.parts.where.textContent = `${where}: row ${row}, column ${column}`;
      this.parts["read-out"].replaceChildren(
        ...this.stack.layers.map((layer) => {
          const [line, head, name, swatch] = ["tr", "th", "div", "span"].map((tag) => document.createElement(tag));
          head.scope = "row";
          swatch.className = "swatch";
          swatch.style.background = layer.colour;
          name.append(swatch, layer.name);
          head.append(name);
          line.append(head);
          line.insertCell().textContent = inWords(layer.numbers[place], layer.step);
          if (!this.reference) return line;
          const difference = layer.numbers[place] - this.reference.numbers[place];
          const step = Math.max(layer.step, this.reference.step);
          line.insertCell().textContent = layer === this.reference ? "" : inWords(difference, step);
          return line;
        }),
      );
    }

    /** Profiles through the cross, over what is seen of its row and column. */
    profiles() {
      const { stack, layers } = this;
      const { row, column } = this.cross;
      const seen = (centre, size) => {
        const [first, end] = [centre - size / this.zoom / 2, centre + size / this.zoom / 2];
        return [limited(Math.floor(first), 0, size - 1), limited(Math.ceil(end), 1, size)];
      };
      const [left, right] = seen(this.centre.x, stack.width);
      const [top, bottom] = seen(this.centre.y, stack.height);
      const along = (numbers) => numbers.subarray(row * stack.width + left, row * stack.width + right);
      const down = (numbers) =>
        Float64Array.from({ length: bottom - top }, (_, index) => numbers[(top + index) * stack.width + column]);
      const drawn = [...stack.layers].sort((a, b) => layers.includes(a) - layers.includes(b)); // compared ones on top
      const lines = (cut) =>
        drawn.map((layer) => ({
          values: cut(layer.numbers),
          colour: layer.colour,
          width: layers.includes(layer) ? 1.6 : 1,
          name: layer.name,
          step: layer.step,
        }));
      this.parts["along-row"].textContent = `Along row ${row}`;
      this.parts["along-column"].textContent = `Along column ${column}`;
      this.profile(this.parts["row-profile"], left, lines(along), column, "column");
      this.profile(this.parts["column-profile"], top, lines(down), row, "row");
    }

    profile(svg, first, lines, marked, label) {
      drawLines(svg, first, lines, marked, label);
      const ends = ({ name, values, step }) =>
        `${name} from ${inWords(values[0], step)} to ${inWords(values[values.length - 1], step)}`;
      const last = first + lines[0].values.length - 1;
      svg.setAttribute("aria-label", `Values of ${label} ${first} to ${last}: ${lines.map(ends).join("; ")}`);
    }

    /** Where the middle of the cross is, in CSS pixels. */
    get crossPoint() {
      const { scale, left, top } = this.place;
      return { x: left + (this.cross.column + 0.5) * scale, y: top + (this.cross.row + 0.5) * scale };
    }

    moveCross(row, column) {
      const { width, height } = this.stack;
      this.cross = {
        row: limited(Math.round(row) || 0, 0, height - 1),
        column: limited(Math.round(column) || 0, 0, width - 1),
      };
      const { x, y } = this.crossPoint; // stays in view
      this.centre.x += (x - limited(x, 0, this.size.width)) / this.place.scale;
      this.centre.y += (y - limited(y, 0, this.size.height)) / this.place.scale;
      this.draw();
    }

    /** The same in words, for those who do not see it. */
    say() {
      const { row, column } = this.cross;
      const place = row * this.stack.width + column;
      const values = this.stack.layers.map((layer) => `${layer.name} ${inWords(layer.numbers[place], layer.step)}`);
      this.parts.status.textContent = `Row ${row}, column ${column}: ${values.join(", ")}`;
    }

    listen() {
      const { parts, canvas } = this;
      const middle = () => ({ x: this.size.width / 2, y: this.size.height / 2 });
      parts.stack.addEventListener("change", () => this.choose(Number(parts.stack.value)));
      for (const side of ["left", "right"]) parts[side].addEventListener("change", () => this.draw());
      parts.divider.addEventListener("input", () => { this.split = parts.divider.value / 1000; this.draw(); });
      parts.in.addEventListener("click", () => this.zoomBy(ZOOM_STEP, middle()));
      parts.out.addEventListener("click", () => this.zoomBy(1 / ZOOM_STEP, middle()));
      parts.fit.addEventListener("click", () => { this.fit(); this.draw(); });
      parts.window.addEventListener("click", () => { this.window = [...this.stack.window]; this.paint(); });
      const rewindow = () => {
        const [low, high] = [parts.low.valueAsNumber, parts.high.valueAsNumber];
        const fine = low < high;
        parts.high.setCustomValidity(fine ? "" : "White must be above black.");
        if (fine) { this.window = [low, high]; this.paint(); } else parts.high.reportValidity();
      };
      parts.low.addEventListener("change", rewindow);
      parts.high.addEventListener("change", rewindow);
      const recross = () => {
        this.moveCross(parts.row.valueAsNumber, parts.column.valueAsNumber);
        this.say();
      };
      parts.row.addEventListener("change", recross);
      parts.column.addEventListener("change", recross);
      canvas.addEventListener("keydown", (event) => this.onKey(event));
      canvas.addEventListener("dblclick", (event) => this.zoomBy(event.shiftKey ? 0.5 : 2, this.pointOf(event)));
      canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
      canvas.addEventListener("pointerdown", (event) => this.onDown(event));
      canvas.addEventListener("pointermove", (event) => this.onMove(event));
      canvas.addEventListener("pointerup", (event) => this.onUp(event));
      canvas.addEventListener("pointercancel", (event) => { this.pointers.delete(event.pointerId); this.hold = null; });
      canvas.addEventListener("pointerleave", () => { this.under = null; if (this.held) this.readOut(); });
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const point = this.crossPoint;
      const far = event.shiftKey ? 10 : 1;
      const moves = { ArrowLeft: [0, -far], ArrowRight: [0, far], ArrowUp: [-far, 0], ArrowDown: [far, 0] };
      if (event.key in moves && this.held) {
        const [down, right] = moves[event.key];
        this.under = null;
        this.moveCross(this.cross.row + down, this.cross.column + right);
        this.say();
      } else if (event.key === "+" || event.key === "=") this.zoomBy(ZOOM_STEP, point);
      else if (event.key === "-") this.zoomBy(1 / ZOOM_STEP, point);
      else if (event.key === "0") { this.fit(); this.draw(); }
      else return;
      event.preventDefault();
    }

    onWheel(event) {
      const scrolling = event.timeStamp - scrolledAt < PAUSE || (this.zoom === 1 && event.deltaY > 0);
      if (scrolling && !event.ctrlKey) return; // the page scrolls
      event.preventDefault();
      event.stopPropagation();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      this.zoomBy(Math.exp(-event.deltaY * lines * 0.002), this.pointOf(event));
    }

    pointOf(event) {
      const box = this.canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    }

    pixelAt(point) {
      const { scale, left, top } = this.place;
      return {
        row: limited(Math.floor((point.y - top) / scale), 0, this.stack.height - 1),
        column: limited(Math.floor((point.x - left) / scale), 0, this.stack.width - 1),
      };
    }

    onDown(event) {
      if (event.button) return;
      const point = this.pointOf(event);
      this.pointers.set(event.pointerId, point);
      this.canvas.setPointerCapture(event.pointerId);
      const near = this.divides && Math.abs(point.x - this.split * this.size.width) < NEAR;
      this.hold = { start: point, moved: this.pointers.size > 1, what: near || this.zoom === 1 ? "divider" : "image" };
    }

    onMove(event) {
      const point = this.pointOf(event);
      const before = this.pointers.get(event.pointerId);
      if (event.pointerType === "mouse") { this.under = this.pixelAt(point); if (this.held) this.readOut(); }
      const near = this.divides && Math.abs(point.x - this.split * this.size.width) < NEAR;
      this.canvas.style.cursor = this.hold?.moved && this.hold.what === "image" ? "grabbing" : near ? "ew-resize" : "";
      if (!before || !this.hold) return;
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      this.pointers.set(event.pointerId, point);
      if (other) {
        const apart = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
        const centre = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 };
        this.zoomBy(apart(point, other) / Math.max(apart(before, other), 1), centre);
        return;
      }
      const { start } = this.hold;
      if (!this.hold.moved && Math.hypot(point.x - start.x, point.y - start.y) < STILL) return;
      this.hold.moved = true;
      if (this.hold.what === "image") {
        const { scale } = this.place;
        this.centre.x -= (point.x - before.x) / scale;
        this.centre.y -= (point.y - before.y) / scale;
      } else if (this.divides) this.split = limited(point.x / this.size.width, 0, 1);
      this.draw();
    }

    onUp(event) {
      const point = this.pointOf(event);
      this.pointers.delete(event.pointerId);
      if (this.hold && !this.hold.moved && this.held) {
        const { row, column } = this.pixelAt(point);
        this.moveCross(row, column);
      }
      if (!this.pointers.size) this.hold = null;
    }
  }

  window.addEventListener("wheel", (event) => { scrolledAt = event.timeStamp; }, { passive: true });
  for (const element of document.querySelectorAll(".viewer")) new Viewer(element).start();
})();

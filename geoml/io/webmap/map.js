"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [west, south, east, north] = data.bounds;
  const [height, width] = data.size;
  const box = L.latLngBounds([south, west], [north, east]);
  const native = Math.log2(156543.03392804097 / data.metres);
  const finest = Math.max(native, Math.log2((156543.03392804097 * Math.cos((((south + north) / 2) * Math.PI) / 180)) / data.gsd));
  const first = Math.max(Math.ceil(native), data.tiles_from || 0);  // farther out a tile would have too many blocks
  // of its own: else tiles, which begin at some zoom, would be the limit of the map
  const map = L.map("map", { minZoom: 0, maxZoom: Math.max(Math.ceil(data.server ? finest : native), data.server ? first : 0) + 3, zoomSnap: 0.25, attributionControl: false, worldCopyJump: false });
  map.setMaxBounds(box.pad(2));
  L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
  map.fitBounds(box, { padding: [8, 8] });

  // text nodes only: names are whatever somebody wrote
  function element(name, text, parent) {
    const made = document.createElement(name);
    if (text !== null && text !== undefined) made.textContent = String(text);
    if (parent) parent.appendChild(made);
    return made;
  }
  function number(value, digits = 5) {
    const small = Math.abs(value) < 0.001 && value !== 0;
    return small ? value.toPrecision(3) : value.toLocaleString("en", { maximumSignificantDigits: digits });
  }
  const panel = document.getElementById("panel");

  // layers: exactly what is stored

  const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };
  async function decode(layer) {
    const bytes = Uint8Array.from(atob(layer.data), function (c) { return c.charCodeAt(0); });
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const type = TYPES[layer.dtype], size = type.BYTES_PER_ELEMENT, count = height * width;
    const out = new Uint8Array(count * size);
    for (let k = 0; k < size; k++) {
      for (let y = 0; y < height; y++) {
        let last = 0;
        for (let i = y * width; i < (y + 1) * width; i++) {
          last = (last + planes[k * count + i]) & 255;
          out[i * size + k] = last;
        }
      }
    }
    return new type(out.buffer);
  }
  function values(layer) {
    if (!layer.values) layer.values = decode(layer);
    return layer.values;
  }
  function known(layer, value) {
    return layer.nodata === null ? !Number.isNaN(value) : value !== layer.nodata;
  }
  function rgb(hex) {
    const n = parseInt(hex.slice(1), 16);
    return [n >> 16, (n >> 8) & 255, n & 255];
  }
  const stops = data.ramp.map(rgb);
  function ramp(share) {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
    return stops[k].map(function (c, i) { return Math.round(c + (at - k) * (stops[k + 1][i] - c)); });
  }
  function colours(layer) {
    if (layer.classes.length) {
      const table = new Map(layer.classes.map(function (c) { return [c[0], rgb(c[2])]; }));
      return function (value) { return table.get(value) || [0, 0, 0]; };
    }
    const table = [];
    for (let k = 0; k < 256; k++) table.push(ramp(k / 255));
    const span = Math.max(layer.high - layer.low, 1e-12);
    return function (value) { return table[Math.min(Math.max(Math.round((255 * (value - layer.low)) / span), 0), 255)]; };
  }
  async function draw(layer, canvas) {
    const all = await values(layer), colour = colours(layer);
    const picture = new ImageData(width, height);
    for (let i = 0; i < all.length; i++) {
      if (!known(layer, all[i])) continue;
      const [r, g, b] = colour(all[i]);
      picture.data.set([r, g, b, 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    canvas.dataset.drawn = layer.key;
  }
  const CanvasOverlay = L.ImageOverlay.extend({
    _initImage: function () {
      const canvas = (this._image = L.DomUtil.create("canvas", "leaflet-image-layer" + (this._zoomAnimated ? " leaflet-zoom-animated" : "")));
      canvas.width = width;
      canvas.height = height;
      if (this.options.zIndex) this._updateZIndex();
      if (this.options.opacity < 1) this._updateOpacity();
      draw(this.options.layer, canvas);
    },
  });
  function overlay(layer, order) {
    const options = { opacity: 0.7, zIndex: 100 - order, layer: layer };
    const picture = new CanvasOverlay(null, box, options);
    if (!data.server) return picture;
    // farther out the page itself has all that a screen shows
    const tiles = L.tileLayer(data.server + "tiles/" + layer.key + "/{z}/{x}/{y}.png", {
      ...options, bounds: box, minZoom: first, minNativeZoom: first, maxNativeZoom: Math.max(Math.ceil(finest), first), maxZoom: 33,
    });
    const both = L.layerGroup([picture, tiles]);
    both.setOpacity = function (share) { picture.setOpacity(share); tiles.setOpacity(share); };
    const choose = function () {
      if (picture.getElement()) picture.getElement().style.visibility = Math.round(map.getZoom()) >= first ? "hidden" : "";
    };
    map.on("zoomend layeradd", choose);
    return both;
  }

  // the panel: a box, an opacity and a legend for each layer

  function row(title, shown, opacity, on, change) {
    const set = element("fieldset", null, panel);
    const label = element("label", null, set);
    const check = element("input", null, label);
    check.type = "checkbox";
    check.checked = on;
    element("span", title[0].toUpperCase() + title.slice(1), label);
    if (on) shown.addTo(map);
    check.addEventListener("change", function () {
      if (check.checked) shown.addTo(map);
      else map.removeLayer(shown);
      if (change) change();
    });
    if (opacity === null) return set;
    const line = element("label", null, set);
    line.className = "opacity";
    line.style.fontWeight = "400";
    element("span", "opacity", line);
    const slider = element("input", null, line);
    slider.type = "range";
    slider.min = 0;
    slider.max = 100;
    slider.value = 100 * opacity;
    slider.setAttribute("aria-label", "Opacity: " + title);
    slider.addEventListener("input", function () { shown.setOpacity(slider.value / 100); });
    return set;
  }
  function legend(set, layer) {
    if (layer.classes.length) {
      const list = element("ul", null, set);
      list.className = "legend";
      layer.classes.forEach(function (c) {
        const line = element("li", null, list);
        element("i", null, line).style.background = c[2];
        element("span", c[1], line);
      });
      return;
    }
    const bar = element("div", null, set);
    bar.className = "ramp";
    bar.style.background = "linear-gradient(to right, " + data.ramp.join(", ") + ")";
    const ends = element("div", null, set);
    ends.className = "ends";
    [layer.low, layer.high].forEach(function (v) { element("span", number(v * layer.scale + layer.offset) + (layer.unit ? " " + layer.unit : ""), ends); });
  }

  const swiped = data.pictures.length > 1;
  data.layers.forEach(function (layer, order) {
    const set = row(layer.title, overlay(layer, order), 0.7, order === 0 && layer.own && !swiped);
    legend(set, layer);
    if (layer.sparse) element("p", "So little is known of it that none of its pixels is on this page; geoml view shows them.", set);
  });
  const images = data.pictures.map(function (picture) {
    map.createPane(picture.key).style.zIndex = 150;  // below the layers, of which tiles are at 200
    const shown = L.imageOverlay(picture.uri, box, { pane: picture.key });
    row(picture.title, shown, 1, true);
    return shown;
  });

  // swipe between two dates

  if (swiped) {
    const before = map.getPane("before"), after = map.getPane("image");
    const divider = element("div", null, map.createPane("divider"));  // below popups
    divider.id = "divider";
    divider.className = "leaflet-zoom-hide";
    map.getPane("divider").style.zIndex = 650;
    divider.tabIndex = 0;
    divider.setAttribute("role", "slider");
    divider.setAttribute("aria-label", "Before on the left, after on the right");
    divider.setAttribute("aria-valuemin", 0);
    divider.setAttribute("aria-valuemax", 100);
    let share = 0.5, on = true;
    const clip = function () {
      const size = map.getSize(), nw = map.containerPointToLayerPoint([0, 0]), se = map.containerPointToLayerPoint(size);
      const x = nw.x + size.x * share;
      L.DomUtil.setPosition(divider, L.point(x, nw.y).round());
      divider.style.height = size.y + "px";
      divider.setAttribute("aria-valuenow", Math.round(100 * share));
      before.style.clip = on ? "rect(" + [nw.y, x, se.y, nw.x].join("px, ") + "px)" : "";
      after.style.clip = on ? "rect(" + [nw.y, se.x, se.y, x].join("px, ") + "px)" : "";
    };
    const move = function (to) { share = Math.min(Math.max(to, 0), 1); clip(); };
    divider.addEventListener("pointerdown", function (event) {
      divider.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    divider.addEventListener("pointermove", function (event) {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      const at = map.getContainer().getBoundingClientRect();
      move((event.clientX - at.left) / at.width);
    });
    divider.addEventListener("keydown", function (event) {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (step) { move(share + step); event.preventDefault(); event.stopPropagation(); }
    });
    L.DomEvent.disableClickPropagation(divider);
    map.on("move zoomend resize viewreset", clip);
    const set = element("fieldset", null, panel), label = element("label", null, set), check = element("input", null, label);
    check.type = "checkbox";
    check.checked = true;
    check.id = "swipe";
    element("span", "Swipe: before on the left, after on the right", label);
    check.addEventListener("change", function () { on = check.checked; divider.style.display = on ? "" : "none"; clip(); });
    clip();
  }

  // polygons and objects

  function inside(rings, lat, lon) {
    let odd = false;
    rings.forEach(function (ring) {
      for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
        const [y1, x1] = ring[i], [y2, x2] = ring[j];
        if (y1 > lat !== y2 > lat && lon < ((x2 - x1) * (lat - y1)) / (y2 - y1) + x1) odd = !odd;
      }
    });
    return odd;
  }
  function covers(parts, at) {
    return parts.some(function (rings) { return inside(rings, at.lat, at.lng) || inside(rings, at.lat, at.lng - 360) || inside(rings, at.lat, at.lng + 360); });
  }
  const colour = new Map(data.classes.map(function (c) { return [c[0], c[2]]; }));
  const renderer = L.canvas({ padding: 0.3, tolerance: 4 });
  data.outlines.forEach(function (table) {
    const kind = table.columns.indexOf("class"), name = table.columns.indexOf("name");
    const group = L.layerGroup();
    table.rows.forEach(function (one) {
      const style = { renderer: renderer, interactive: false, weight: 1.5, color: (kind >= 0 && colour.get(one[1][kind])) || "#e11d48", fill: false };
      const lines = one[0].flat(1);
      one.bounds = L.latLngBounds(lines.flat(1));
      one[0].forEach(function (rings) {
        if (rings.length === 1 && rings[0].length === 1) L.circleMarker(rings[0][0], { ...style, radius: 4 }).addTo(group);
        else L.polygon(rings, style).addTo(group);
      });
    });
    const few = table.rows.length < table.count ? ", " + table.rows.length + " of them drawn" : "";
    const set = row("Outlines: " + table.title, group, null, swiped || !data.layers.some(function (l) { return l.classes.length; }));
    const said = element("p", null, set);
    said.className = "in-view";
    const tell = function () {
      const view = map.getBounds(), counts = new Map();
      table.rows.forEach(function (one) {
        if (!one.bounds.isValid() || !view.intersects(one.bounds)) return;
        const key = name >= 0 ? one[1][name] : "features";
        counts.set(key, (counts.get(key) || 0) + 1);
      });
      const list = Array.from(counts).sort().map(function (c) { return c[1] + " " + c[0]; }).join(", ");
      said.textContent = "In view: " + (list || "none") + ". In all " + table.count + few + ".";
    };
    map.on("moveend", tell);
    tell();
  });

  // a click

  const corner = L.CRS.EPSG3857.project(box.getNorthWest()), far = L.CRS.EPSG3857.project(box.getSouthEast());
  function pixel(at) {
    const p = L.CRS.EPSG3857.project(at);
    const col = Math.floor(((p.x - corner.x) / (far.x - corner.x)) * width), line = Math.floor(((p.y - corner.y) / (far.y - corner.y)) * height);
    return line >= 0 && line < height && col >= 0 && col < width ? line * width + col : -1;
  }
  async function stored(at) {
    const index = pixel(at), found = {};
    if (data.server) {
      const answer = await fetch(data.server + "point?lon=" + at.lng + "&lat=" + at.lat);
      if (!answer.ok) return { found: found, fault: "The values cannot be read: " + (await answer.text()) };
      const unread = Number(answer.headers.get("Geoml-Unread") || 0);
      return { found: await answer.json(), fault: unread ? unread + (unread === 1 ? " file" : " files") + " here cannot be read; geoml view names what is wrong." : "" };
    }
    if (index < 0) return { found: found };
    for (const layer of data.layers) {
      const value = (await values(layer))[index];
      if (known(layer, value)) found[layer.key] = value;
    }
    return { found: found };
  }
  function said(layer, value) {
    const one = layer.classes.find(function (c) { return c[0] === value; });
    if (one) return one[1];
    return number(value * layer.scale + layer.offset) + (layer.unit ? " " + layer.unit : "");
  }
  function lines(parent, pairs) {
    const table = element("table", null, parent);
    pairs.forEach(function (pair) {
      const line = element("tr", null, table);
      element("td", pair[0], line);
      element("td", pair[1], line);
    });
  }
  async function answer(at) {
    const out = element("div", null, null);
    out.className = "answer";
    const lon = ((at.lng + 540) % 360) - 180;
    element("div", at.lat.toFixed(5) + "°, " + lon.toFixed(5) + "°", out).className = "at";
    const { found, fault } = await stored(at);
    const pairs = data.layers.filter(function (l) { return l.key in found; }).map(function (l) { return [l.title, said(l, found[l.key])]; });
    if (pairs.length) lines(out, pairs);
    else if (data.layers.length && !fault) element("div", "No data here.", out);
    if (fault) element("div", fault, out);
    data.outlines.forEach(function (table) {
      table.rows.filter(function (one) { return one.bounds.isValid() && covers(one[0], at); }).slice(0, 3).forEach(function (one) {
        element("h2", "Inside", out);
        lines(out, table.columns.map(function (c, k) { return [c, one[1][k]]; }).filter(function (p) { return p[1] !== null; })
          .map(function (p) { return [p[0], typeof p[1] === "number" ? number(p[1]) : p[1]]; }));
      });
    });
    const seen = data.sources.rows.filter(function (s) { return covers(s[2], at); });
    if (seen.length) {
      element("h2", seen.length === 1 ? "Source" : "Sources", out);
      const list = element("ul", null, out);
      seen.slice(0, 30).forEach(function (s) { element("li", (s[0] ? s[0] + " UTC, " : "") + s[1], list); });
      if (seen.length > 30) element("li", "and " + (seen.length - 30) + " more", list);
    }
    return out;
  }
  map.on("click", async function (event) {
    const popup = L.popup({ maxWidth: Math.min(340, map.getSize().x - 60), autoPanPadding: [12, 12] }).setLatLng(event.latlng);
    popup.setContent(await answer(event.latlng)).openOn(map);
  });

  const ground = data.metres * Math.cos((box.getCenter().lat * Math.PI) / 180), square = data.sketch ? Math.max(ground, data.sketch) : ground;
  const finer = square > 1.5 * data.gsd ? "; the run has " + number(data.gsd) + " m, for which there is geoml view" : "";
  const squares = "of each square of " + number(square, 2) + " m of ground it knows one pixel, near the middle";
  const coarse = data.server ? "full resolution" : data.sketch ? squares + finer : "a pixel covers about " + number(ground, 2) + " m of ground" + finer;
  element("p", "Click the map for its values. Each is as stored and none is averaged: " + coarse + ". Map: Leaflet.", panel);
  if (data.sketch) element("p", "The run has many blocks, so the picture is a sketch" + (data.server ? " where you see the whole; closer in all pixels are shown." : "."), panel);
  if (data.sources.rows.length < data.sources.count) element("p", data.sources.rows.length + " of " + data.sources.count + " sources are known to this page.", panel);
  if (data.missing) element("p", data.missing + " blocks could not be read and are not on the map; the report names them.", panel);

  const toggle = document.getElementById("toggle");
  toggle.addEventListener("click", function () {
    toggle.setAttribute("aria-expanded", panel.classList.toggle("open"));
  });
})();

"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colours = { ok: "#ffb000", abstained: "#8fb8de", unreadable: "#c0504d", refused: "#c0504d" };
  const map = L.map("map", { crs: L.CRS.EPSG4326, minZoom: 0, maxZoom: data.fine ? 21 : 14, zoomSnap: 0.25, attributionControl: false });
  const world = [[-90, -180], [90, 180]];
  const picture = L.imageOverlay(document.getElementById("world").getAttribute("src"), world).addTo(map);
  // a picture of the world as wide as a city is on the screen is more than browsers draw
  if (data.fine) map.on("zoomend", function () { picture.setOpacity(map.getZoom() > 10 ? 0 : 1); });
  map.setMaxBounds([[-100, -200], [100, 200]]);

  // text nodes only: names of files and places are whatever somebody wrote
  function element(name, text, parent) {
    const made = document.createElement(name);
    if (text !== null && text !== undefined) made.textContent = String(text);
    if (parent) parent.appendChild(made);
    return made;
  }
  function line(parent, label, value) {
    if (value === null || value === undefined || value === "") return;
    const row = element("div", null, parent);
    element("b", label + " ", row);
    element("span", value, row);
  }
  function degrees(lat, lon) {
    return lat.toFixed(data.digits) + "°, " + lon.toFixed(data.digits) + "°";
  }
  function card(row) {
    const box = element("div", null, null);
    box.className = "card";
    if (row.thumbnail) {
      const image = element("img", null, box);
      image.setAttribute("src", row.thumbnail);
      image.setAttribute("alt", "");
    }
    element("h3", row.id, box);
    line(box, "Status", row.status);
    line(box, "Why", row.reason);
    if (row.lat !== null) line(box, "Place", degrees(row.lat, row.lon));
    if (row.error !== null) line(box, "Off by", row.error.toFixed(row.error < 100 ? 1 : 0) + " m (one standard deviation)");
    else if (row.radius !== null) line(box, "90 % within", Math.round(row.radius) + " km");
    line(box, "Found in", row.where);
    if (row.error !== null) line(box, "Inliers", row.inliers);
    line(box, "Told to", row.precision);
    line(box, "EXIF", row.exif);
    if (row.topk.length) {
      const list = element("ol", null, box);
      row.topk.forEach(function (one) {
        const share = one.p === null ? "" : " – " + (100 * one.p).toFixed(0) + " %";
        element("li", (one.name || degrees(one.lat, one.lon)) + share, list);
      });
    }
    return box;
  }

  const bounds = [];
  const markers = {};
  data.rows.forEach(function (row, index) {
    if (row.lat === null) return;
    const colour = colours[row.status];
    if (row.outline.length) {
      L.polygon(row.outline, { color: colour, weight: 1, fillOpacity: 0.12, interactive: false }).addTo(map);
    }
    const marker = L.circleMarker([row.lat, row.lon], { radius: 5, color: "#111", weight: 1, fillColor: colour, fillOpacity: 1 });
    marker.addTo(map).bindPopup(function () { return card(row); }, { maxWidth: 320 });
    markers[index] = marker;
    bounds.push([row.lat, row.lon]);
    row.outline.forEach(function (rings) { rings[0].forEach(function (at) { if (row.error !== null) bounds.push(at); }); });
  });
  const list = document.getElementById("list");
  data.rows.forEach(function (row, index) {
    const button = element("button", null, element("li", null, list));
    button.className = row.status;
    element("b", row.id, button);
    element("span", row.lat === null ? row.status + (row.reason ? ": " + row.reason : "") : row.status, button);
    const shown = document.getElementById("shown");
    button.addEventListener("click", function () {
      shown.replaceChildren();
      if (markers[index]) {
        if (row.error !== null && row.outline.length) map.fitBounds(row.outline[0][0], { maxZoom: 21 });
        else map.setView([row.lat, row.lon], Math.max(map.getZoom(), 3));
        markers[index].openPopup();
      } else {
        shown.appendChild(card(row));
      }
    });
  });
  if (bounds.length) map.fitBounds(bounds, { padding: [60, 60], maxZoom: data.fine ? 21 : 4 });
  else map.fitBounds(world);
})();

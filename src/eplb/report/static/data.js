// What Python wrote, and typed arrays decoded from it when they are first asked for.
const report = JSON.parse(document.getElementById("report-data").textContent);
const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };
const decoded = new Map();

function values(packed) {
  if (!decoded.has(packed)) {
    const text = atob(packed.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    decoded.set(packed, new TYPES[packed.type](bytes.buffer));
  }
  return decoded.get(packed);
}

// The part of a packed array at the first indices, as a view.
function part(packed, ...indices) {
  let size = values(packed).length, start = 0;
  indices.forEach((index, axis) => {
    size /= packed.shape[axis];
    start += index * size;
  });
  return values(packed).subarray(start, start + size);
}

function rows(packed, ...indices) {
  const flat = part(packed, ...indices), width = packed.shape[packed.shape.length - 1];
  return Array.from({ length: flat.length / width }, (_, i) => flat.subarray(i * width, (i + 1) * width));
}

function policyNamed(name) {
  return report.policies.find((policy) => policy.name === name);
}

// Rank loads over the mean, from thousandths; null where a rank failed.
function overMean(row) {
  return Array.from(row, (value) => (value === report.missing ? null : value / report.scale));
}

function span([first, last]) {
  return first === last ? `window ${first}` : `windows ${first} to ${last}`;
}

function layerName(index) {
  return String(report.layers[index]);
}

// Plotly reads a little markup in labels; names from files must not be read so.
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}%`;
}

function bytesText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (Math.abs(bytes) >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit++; }
  return `${Number(bytes.toPrecision(3))} ${units[unit]}`;
}

/** The table of all trials in the browser: one typed array a column, which grows. */

const NONE = 0xffff;

/** Decodes a block of columns as `wire.py` writes it. */
export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = padded(4 + length);
  const rows = new Uint32Array(buffer, at, header.count);
  at = padded(at + rows.byteLength);
  const arrays = header.columns.map((column) => {
    const kind = column.kind === "number" ? Float32Array : Uint16Array;
    const values = new kind(buffer, at, header.count);
    at = padded(at + values.byteLength);
    return values;
  });
  return { header, rows, arrays };
}

const padded = (bytes) => Math.ceil(bytes / 8) * 8;

/** All trials that the page knows, by columns. Numbers are float32 with NaN for none; categories are codes as float32. */
export class Table {
  constructor() {
    this.forget();
  }

  /** Drops everything, as for a server that started again. */
  forget() {
    this.epoch = "";
    this.version = 0;
    this.schema = -1;
    this.count = 0;
    this.columns = [];
    this.byKey = new Map();
    this.constants = {};
    this.crowded = [];
    this.capacity = 0;
  }

  /** Takes a block; returns the rows that changed, how many are new, and whether the server began anew. */
  take(buffer) {
    const { header, rows, arrays } = decode(buffer);
    const anew = header.epoch !== this.epoch;
    const before = anew ? 0 : this.count;
    if (anew || header.schema !== this.schema) this._arrange(header);
    this._grow(header.total);
    header.columns.forEach((about, place) => {
      const column = this.columns[place];
      column.names = about.names;
      write(column, rows, arrays[place]);
    });
    Object.assign(this, { version: header.version, count: header.total, constants: header.constants });
    this.crowded = header.crowded;
    return { rows, anew, added: header.total - before };
  }

  /** Returns the column with a key, or undefined. */
  column(key) {
    return this.byKey.get(key);
  }

  _arrange(header) {
    this.forget();
    Object.assign(this, { epoch: header.epoch, schema: header.schema });
    this.columns = header.columns.map((about) => ({ ...about, values: new Float32Array(0) }));
    this.byKey = new Map(this.columns.map((column) => [column.key, column]));
  }

  _grow(total) {
    if (total <= this.capacity) return;
    this.capacity = Math.max(total, Math.ceil(this.capacity * 1.5), 1024);
    for (const column of this.columns) {
      const values = new Float32Array(this.capacity).fill(NaN);
      values.set(column.values);
      column.values = values;
    }
  }
}

/** Writes a column's values at their rows. */
function write(column, rows, values) {
  const target = column.values;
  const number = column.kind === "number";
  for (let i = 0; i < rows.length; i++) {
    const value = values[i];
    target[rows[i]] = number || value !== NONE ? value : NaN;
  }
}

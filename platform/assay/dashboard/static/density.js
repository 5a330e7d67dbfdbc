/** Draws counts of cell pairs as a density between two axes. */

import { CELLS, MISSING, SIDE } from "./bins.js";

/** Rows of the picture: two for each cell, then a gap, then the place of trials without a value. */
export const ROWS = 216;
const LANE = 208;
const COLUMNS = 64;

/** Returns the row of a picture in which a cell has its centre. */
export const rowOf = (cell) => (cell === MISSING ? LANE : (CELLS - 1 - cell) * 2 + 1);

const ROW_OF = Float64Array.from({ length: SIDE }, (_, cell) => rowOf(cell));
const heat = new Float32Array(ROWS * COLUMNS);

/** Returns a canvas with the density of one pair of axes, in a colour `[red, green, blue]`. */
export function picture(counts, colour, canvas) {
  heat.fill(0);
  for (let left = 0; left < SIDE; left++) {
    for (let right = 0; right < SIDE; right++) {
      const count = counts[left * SIDE + right];
      if (count) splat(ROW_OF[left], ROW_OF[right], count);
    }
  }
  return painted(colour, canvas);
}

/** Adds trials that run from one row at the left to another at the right; a steep run fills the rows that it crosses. */
function splat(from, to, count) {
  const step = (to - from) / COLUMNS;
  const reach = Math.max(1, Math.abs(step));
  const weight = count / reach;
  let top = from + step / 2 - reach / 2;
  for (let x = 0; x < COLUMNS; x++, top += step) {
    const end = top + reach;
    let row = top < 0 ? 0 : top | 0;
    let place = row * COLUMNS + x;
    for (; row < end && row < ROWS; row++, place += COLUMNS) {
      const covered = (row + 1 < end ? row + 1 : end) - (row > top ? row : top);
      heat[place] += weight * covered;
    }
  }
}

/** Turns the sums into opacity: by their logarithm, so that single trials are seen beside thousands. */
function painted([red, green, blue], canvas) {
  canvas.width = COLUMNS;
  canvas.height = ROWS;
  let most = 0;
  for (let i = 0; i < heat.length; i++) if (heat[i] > most) most = heat[i];
  const context = canvas.getContext("2d");
  const image = context.createImageData(COLUMNS, ROWS);
  const pixels = new Uint32Array(image.data.buffer);
  const colour = (blue << 16) | (green << 8) | red;
  const scale = most > 0 ? 225 / Math.log1p(most * 4) : 0;
  for (let i = 0; i < heat.length; i++) {
    const value = heat[i];
    if (value > 0) pixels[i] = ((28 + Math.log1p(value * 4) * scale) << 24) | colour;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

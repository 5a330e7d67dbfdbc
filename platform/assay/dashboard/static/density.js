/** Draws counts of cell pairs as a density between two axes. */

import { CELLS, MISSING, SIDE } from "./bins.js";

/** Rows of the picture: two for each cell, then a gap, then the place of trials without a value. */
export const ROWS = 216;
const LANE = 208;
const COLUMNS = 56;

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

/** Adds trials that run from one row at the left to another at the right. */
function splat(from, to, count) {
  const step = (to - from) / COLUMNS;
  let at = from + step / 2 - 0.5;
  for (let x = 0; x < COLUMNS; x++, at += step) {
    const row = at | 0;
    const share = at - row;
    const place = row * COLUMNS + x;
    heat[place] += count * (1 - share);
    heat[place + COLUMNS] += count * share;
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

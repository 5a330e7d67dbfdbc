/* What a reader of the page could not read: texts that leave the window, are too faint, or lie on each other. */
(root) => {
  const wide = document.documentElement.clientWidth;
  const named = (one) => `${one.localName}${one.id ? `#${one.id}` : ""}.${one.getAttribute("class") ?? ""}`;
  const folded = (one) => one.closest("details:not([open])") && !one.closest("summary");
  const seen = (one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest(".unseen, .skip, [aria-hidden]") && !folded(one);

  /** Colours as [red, green, blue, alpha]. */
  const channels = (colour) => {
    const found = colour.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    return found.length > 3 ? found : [...found, 1];
  };
  const over = (above, below) => above.slice(0, 3).map((value, n) => value * above[3] + below[n] * (1 - above[3]));
  const light = (colour) => {
    const [red, green, blue] = colour.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  /** The colour behind an element: the backgrounds of all that it lies in. */
  const behind = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) layers.push(channels(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255]);
  };
  /** WCAG 2.2, 1.4.3. */
  const contrast = (one, style) => {
    const ground = behind(one);
    const [a, b] = [light(over(channels(one.namespaceURI.endsWith("svg") ? style.fill : style.color), ground)), light(ground)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const isLarge = (style) => parseFloat(style.fontSize) >= (Number(style.fontWeight) >= 700 ? 18.66 : 24);

  /** The part of a box that its surroundings let through. */
  const clipped = (box, one) => {
    let { left, right, top, bottom } = box;
    for (let at = one; at && at !== document.body; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.overflowX === "visible" && style.overflowY === "visible") continue;
      const edge = at.getBoundingClientRect();
      [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
      [top, bottom] = [Math.max(top, edge.top), Math.min(bottom, edge.bottom)];
    }
    return { left, right, top, bottom };
  };

  const outside = [];
  if (document.documentElement.scrollWidth > wide) outside.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  for (const one of root.querySelectorAll("*")) {
    if (!seen(one) || one.parentElement.closest(".scroll, #runs, svg")) continue;
    const box = one.getBoundingClientRect();
    if (box.width && (box.left < -1 || box.right > wide + 1)) outside.push(named(one));
  }

  const faint = new Set(), texts = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, one = node.parentElement;
    if (!node.data.trim() || !seen(one)) continue;
    const style = getComputedStyle(one), found = contrast(one, style);
    if (found < (isLarge(style) ? 3 : 4.5)) faint.add(`${named(one)} ${found.toFixed(2)}`);
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const line of range.getClientRects()) {
      // The letters themselves fill about the middle half of a line.
      const quarter = line.height / 4;
      const box = clipped({ left: line.left + 1, right: line.right - 1, top: line.top + quarter, bottom: line.bottom - quarter }, one);
      if (box.right > box.left && box.bottom > box.top) texts.push({ ...box, node, says: `${named(one)} ${node.data.trim().slice(0, 30)}` });
    }
  }
  const overlapping = [];
  texts.forEach((a, n) => {
    for (const b of texts.slice(n + 1)) {
      if (a.node !== b.node && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) overlapping.push(`${a.says} | ${b.says}`);
    }
  });
  return { outside, faint: [...faint], overlapping, texts: texts.length };
}

// Which texts of a panel are cut off or out of view.

const TOLERANCE = 1.5;
/** Share of a line's height that may be out of view: letters are lower than their lines. */
const SPARE = 0.3;
const CLIPS = new Set(['hidden', 'clip', 'auto', 'scroll']);

/** Texts that stand outside of what their boxes show. Rows that one can scroll to are not cut. */
export function cutTexts(panel) {
  const found = new Set();
  for (const node of textNodes(panel)) {
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width && box.height && isCut(box, node.parentElement, panel)) found.add(node.data.trim());
  }
  for (const text of panel.querySelectorAll('svg text')) {
    const [box, around] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
    if (box.left < around.left - TOLERANCE || box.top < around.top - TOLERANCE || box.bottom > around.bottom + TOLERANCE) found.add(text.textContent);
  }
  return [...found];
}

function* textNodes(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (node.data.trim() && !parent.closest('svg, style, [data-error]') && isShown(parent)) yield node;
  }
}

function isShown(element) {
  return element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
}

function isCut(box, parent, panel) {
  for (let element = parent; element && panel.contains(element); element = element.parentElement) {
    const { overflowX, overflowY } = getComputedStyle(element);
    const around = element.getBoundingClientRect();
    const isBeside = box.right > around.right + TOLERANCE || box.left < around.left - TOLERANCE;
    const spare = SPARE * Math.min(box.height, parseFloat(getComputedStyle(parent).lineHeight) || box.height);
    const isBelow = box.bottom > around.bottom + spare || box.top < around.top - spare;
    if (CLIPS.has(overflowX) && isBeside) return true;
    if (['auto', 'scroll'].includes(overflowY) && isBelow) return false;
    if (CLIPS.has(overflowY) && isBelow) return true;
  }
  return false;
}

/** The names of a legend, and whether one has to scroll to see each. */
export function legendNames(panel) {
  const items = panel.querySelectorAll('[data-testid^="data-testid VizLegend series"] button, td button[title]');
  return [...items].map((item) => ({ name: item.textContent.trim(), isHidden: isOutOfView(item, panel) }));
}

function isOutOfView(item, panel) {
  const box = item.getBoundingClientRect();
  const middle = (box.top + box.bottom) / 2;
  for (let element = item.parentElement; element && panel.contains(element); element = element.parentElement) {
    const around = element.getBoundingClientRect();
    if (CLIPS.has(getComputedStyle(element).overflowY) && (middle > around.bottom || middle < around.top)) return true;
  }
  return false;
}

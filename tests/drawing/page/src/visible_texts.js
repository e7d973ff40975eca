// Which texts of a panel are cut off or out of view.

const TOLERANCE = 1.5;
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
    const isBelow = box.bottom > around.bottom + TOLERANCE || box.top < around.top - TOLERANCE;
    if (CLIPS.has(overflowX) && isBeside) return true;
    if (['auto', 'scroll'].includes(overflowY) && isBelow) return false;
    if (CLIPS.has(overflowY) && isBelow) return true;
  }
  return false;
}

/** Names of a legend that one has to scroll to. */
export function hiddenLegendNames(panel) {
  const names = panel.querySelectorAll('[class*="LegendLabel"], [data-testid*="VizLegend"], button[class*="label"]');
  const hidden = [];
  for (const name of names) {
    const box = name.getBoundingClientRect();
    for (let element = name.parentElement; element && panel.contains(element); element = element.parentElement) {
      const around = element.getBoundingClientRect();
      const isOut = box.bottom > around.bottom + 4 || box.top < around.top - 4;
      if (CLIPS.has(getComputedStyle(element).overflowY) && isOut) {
        hidden.push(name.textContent);
        break;
      }
    }
  }
  return [...new Set(hidden)].filter(Boolean);
}

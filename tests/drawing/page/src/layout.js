// Where panels stand when rows are closed, and when all are open.

/** Panels and rows with their places; of closed rows the panels come too if all are to be open. */
export function laidOut(panels, isOpen) {
  let pushed = 0;
  return panels.toSorted((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x).flatMap((panel) => {
    const at = { panel, gridPos: lower(panel.gridPos, pushed) };
    if (panel.type !== 'row' || !panel.collapsed || !isOpen || !panel.panels.length) return [at];
    const top = Math.min(...panel.panels.map((each) => each.gridPos.y));
    const inside = panel.panels.map((each) => ({ panel: each, gridPos: lower(each.gridPos, at.gridPos.y + 1 - top) }));
    pushed += Math.max(...inside.map(({ gridPos }) => gridPos.y + gridPos.h)) - at.gridPos.y - 1;
    return [at, ...inside];
  });
}

const lower = (gridPos, rows) => ({ ...gridPos, y: gridPos.y + rows });

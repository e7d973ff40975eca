// Heat maps, drawn here: Grafana's own is no public component.
import { DataFrameType, formattedValueToString, getValueFormat } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';
import * as scales from 'd3-scale-chromatic';
import { useLayoutEffect, useMemo, useRef } from 'react';
import { timeTicks } from './axes.js';
import { Empty } from './empty.jsx';
import { thinned } from './graph.jsx';

const AXIS = 46;
const TOP = 4;

export function Heatmap({ panel, drawn, width, height, range }) {
  const theme = useTheme2();
  const canvas = useRef();
  const cells = useMemo(() => cellsOf(drawn.data, panel), [drawn]);
  useLayoutEffect(() => {
    if (cells.length) draw(canvas.current, cells, { panel, width, height, range, theme, exemplars: drawn.exemplars });
  });
  if (!cells.length) return <Empty panel={panel} height={height} />;
  return <canvas ref={canvas} style={{ width, height }} />;
}

/** Cells with a count; a classic bucket is a row, a native one has bounds of its own. */
function cellsOf(data, panel) {
  const least = panel.options.filterValues?.le ?? 0;
  const native = data.find((each) => each.meta?.type === DataFrameType.HeatmapCells);
  const rows = data.find((each) => each.meta?.type === DataFrameType.HeatmapRows);
  const found = native ? nativeCells(native) : rows ? classicCells(rows) : [];
  return found.filter((cell) => cell.count > least);
}

/** Grafana 11.6 draws no cell whose bound is infinite (grafana#125186), nor below 0 on its axis. */
const isDrawable = ({ low, high }) => low > 0 && Number.isFinite(high);

const nativeCells = (frame) => allCells(frame).filter(isDrawable);

function allCells(frame) {
  const [times, lows, highs, counts] = frame.fields.map((field) => field.values);
  return times.map((to, index) => ({ to, from: to - frame.step, low: lows[index], high: highs[index], count: counts[index] }));
}

/** The share of what native histograms count that is in cells which are not drawn. */
export function lostShare(data) {
  const cells = data.filter((each) => each.meta?.type === DataFrameType.HeatmapCells).flatMap(allCells);
  const sum = (some) => some.reduce((total, cell) => total + cell.count, 0);
  return cells.length ? 1 - sum(cells.filter(isDrawable)) / sum(cells) : 0;
}

function classicCells(frame) {
  const [time, ...rows] = frame.fields;
  return rows.flatMap((row, index) =>
    row.values.map((count, at) => ({ to: time.values[at], from: time.values[at] - frame.step, row: index, bound: row.name, rows: rows.map((each) => each.name), count }))
  );
}

function draw(canvas, cells, { panel, width, height, range, theme, exemplars }) {
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext('2d');
  context.scale(devicePixelRatio, devicePixelRatio);
  context.font = `12px ${theme.typography.fontFamily}`;
  const { yAxis = {}, color = {} } = panel.options;
  const format = getValueFormat(yAxis.unit ?? 'short');
  const text = (value) => formattedValueToString(format(value, yAxis.decimals));
  const inside = height - AXIS - TOP;
  const axis = cells[0].rows ? rowAxis(cells[0].rows, inside, text) : logAxis(cells, inside, text);
  const left = 14 + Math.max(...axis.labels.map(([, label]) => context.measureText(label).width));
  const from = range.from.valueOf();
  const x = (time) => left + ((time - from) / (range.to.valueOf() - from)) * (width - left);
  const most = Math.max(...cells.map((cell) => cell.count));
  const shade = shadeOf(color, theme);
  for (const cell of cells) {
    const [y0, y1] = axis.edges(cell);
    const x0 = Math.max(left, x(cell.from));
    context.fillStyle = shade((cell.count / most) ** (color.exponent ?? 0.5));
    context.fillRect(x0, y0 + 0.5, x(cell.to) - x0 - 1, Math.max(1, y1 - y0 - 1));
  }
  context.fillStyle = 'rgba(255, 0, 255, 0.7)';
  for (const each of thinned(exemplars)) {
    const y = axis.place?.(each.value);
    if (y !== undefined && y < TOP + inside) context.fillRect(x(each.time) - 2.5, y - 2.5, 5, 5);
  }
  drawLabels(context, axis.labels, { left, width, height, range, theme });
  drawScale(context, { left, height, shade, most, panel, theme });
}

/** One colour in lighter and darker, or a scheme by its name; Grafana's own are turned in dark themes. */
function shadeOf(color, theme) {
  if (color.mode === 'opacity') {
    const fill = theme.visualization.getColorByName(color.fill ?? 'dark-orange');
    return (share) => fill + Math.round(255 * share).toString(16).padStart(2, '0');
  }
  const scheme = scales[`interpolate${color.scheme ?? 'Oranges'}`] ?? scales.interpolateOranges;
  const isTurned = theme.isDark !== Boolean(color.reverse);
  const steps = (color.steps ?? 64) - 1;
  return (share) => {
    const step = Math.round(share * steps) / steps;
    return scheme(isTurned ? 1 - step : step);
  };
}

function rowAxis(bounds, inside, text) {
  const size = inside / bounds.length;
  const y = (row) => TOP + inside - row * size;
  const label = (bound) => (Number.isFinite(Number(bound)) ? text(Number(bound)) : bound);
  return { edges: ({ row }) => [y(row + 1), y(row)], labels: bounds.map((bound, row) => [y(row + 1), label(bound)]) };
}

function logAxis(cells, inside, text) {
  const low = Math.floor(Math.log2(Math.min(...cells.map((cell) => cell.low))));
  const high = Math.ceil(Math.log2(Math.max(...cells.map((cell) => cell.high))));
  const place = (value) => TOP + inside - ((Math.log2(value) - low) / (high - low)) * inside;
  const labels = Array.from({ length: high - low + 1 }, (_, index) => 2 ** (low + index)).map((bound) => [place(bound), text(bound)]);
  return { place, labels, edges: (cell) => [place(cell.high), place(cell.low)] };
}

function drawLabels(context, labels, { left, width, height, range, theme }) {
  context.fillStyle = theme.colors.text.primary;
  context.textAlign = 'right';
  let last = Infinity;
  for (const [y, label] of labels) {
    if (last - y < 14) continue;
    last = y;
    context.fillText(label, left - 8, y + 4);
  }
  context.textAlign = 'center';
  for (const { at, text } of timeTicks(range, width - left)) context.fillText(text, left + at * (width - left), height - AXIS + 16);
}

function drawScale(context, { left, height, shade, most, panel, theme }) {
  if (panel.options.legend?.show === false) return;
  const { cellValues = {} } = panel.options;
  for (let step = 0; step < 120; step++) {
    context.fillStyle = shade(step / 119);
    context.fillRect(left + step * 2, height - 20, 2, 8);
  }
  context.fillStyle = theme.colors.text.primary;
  context.textAlign = 'left';
  context.fillText('0', left, height - 2);
  context.fillText(formattedValueToString(getValueFormat(cellValues.unit ?? 'short')(most, cellValues.decimals)), left + 200, height - 2);
}

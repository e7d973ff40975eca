// Graphs over time: Grafana's component, with exemplars and annotations drawn over it.
import { applyNullInsertThreshold, DataFrameType, FieldType, nullToValue } from '@grafana/data';
import { TimeSeries, useTheme2 } from '@grafana/ui';
import { useMemo } from 'react';
import { Empty } from './empty.jsx';

/** Frames that a graph can draw, with gaps where a step has no sample or no number. */
export function graphable(data, range) {
  const span = { refFieldPseudoMin: range.from.valueOf(), refFieldPseudoMax: range.to.valueOf() };
  return data
    .filter((frame) => frame.length && frame.meta?.type !== DataFrameType.HeatmapCells)
    .map((frame) => nullToValue(applyNullInsertThreshold({ frame, ...span })))
    .map((frame) => ({ ...frame, fields: frame.fields.map(withoutNaN) }));
}

const withoutNaN = (field) =>
  field.type === FieldType.number
    ? { ...field, values: field.values.map((value) => (Number.isFinite(value) ? value : null)) }
    : field;

export function Graph({ panel, drawn, width, height, range, annotations }) {
  const theme = useTheme2();
  const frames = useMemo(() => graphable(drawn.data, range), [drawn]);
  if (!frames.length) return <Empty panel={panel} height={height} />;
  return (
    <TimeSeries frames={frames} structureRev={1} timeRange={range} timeZone="utc" width={width} height={height}
      legend={panel.options.legend} options={panel.options}>
      {(config) => {
        if (!config.hasMarks) {
          config.hasMarks = true;
          config.addHook('draw', (plot) => drawMarks(plot, drawn.exemplars, annotations, theme));
        }
        return null;
      }}
    </TimeSeries>
  );
}

function drawMarks(plot, exemplars, annotations, theme) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const region of annotations.flatMap((each) => each.regions)) drawAnnotation(plot, region, theme);
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const scale = Object.keys(plot.scales).find((key) => key !== 'x');
  ctx.fillStyle = theme.visualization.getColorByName('semi-dark-blue');
  for (const { time, value } of thinned(exemplars)) {
    const [x, y, size] = [plot.valToPos(time, 'x', true), plot.valToPos(value, scale, true), 4 * devicePixelRatio];
    ctx.beginPath();
    ctx.moveTo(x, y - size);
    for (const [right, down] of [[size, 0], [0, size], [-size, 0]]) ctx.lineTo(x + right, y + down);
    ctx.fill();
  }
  ctx.restore();
}

/** A dashed line where it begins and one where it ends, a light area between, a mark below the axis. */
function drawAnnotation(plot, { from, to, color }, theme) {
  const { ctx, bbox } = plot;
  const inside = (x) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, x));
  const [left, right] = [from, to].map((time) => plot.valToPos(time, 'x', true));
  if (right < bbox.left || left > bbox.left + bbox.width) return;
  const [x0, x1, bottom, size] = [inside(left), inside(right), bbox.top + bbox.height, 5 * devicePixelRatio];
  ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(color);
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([5 * devicePixelRatio, 5 * devicePixelRatio]);
  for (const x of new Set([x0, x1])) {
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bottom);
    ctx.stroke();
  }
  ctx.setLineDash([]);
  ctx.globalAlpha = 0.1;
  ctx.fillRect(x0, bbox.top, x1 - x0, bbox.height);
  ctx.globalAlpha = 1;
  if (x1 - x0 > size) ctx.fillRect(x0, bottom, x1 - x0, size);
  ctx.beginPath();
  ctx.moveTo(x0, bottom);
  ctx.lineTo(x0 + size, bottom + size);
  ctx.lineTo(x0 - size, bottom + size);
  ctx.fill();
}

/** Grafana leaves out exemplars near each other; this is like it: two deviations apart in 15 s. */
export function thinned(exemplars) {
  const each = [...new Map(exemplars.map((one) => [one.trace ?? one.time, one])).values()];
  const mean = each.reduce((sum, one) => sum + one.value, 0) / each.length;
  const deviation = Math.sqrt(each.reduce((sum, one) => sum + (one.value - mean) ** 2, 0) / each.length);
  const kept = new Map();
  for (const one of each.sort((a, b) => b.value - a.value)) {
    const slot = Math.floor(one.time / 15000);
    const mine = kept.get(slot) ?? [];
    if (!mine.length || mine.at(-1).value - one.value > 2 * deviation) kept.set(slot, [...mine, one]);
  }
  return [...kept.values()].flat();
}

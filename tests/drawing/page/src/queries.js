// A panel's queries: steps and variables of Grafana's data source, and the answers as data frames.
import { DataFrameType, FieldType, rangeUtil } from '@grafana/data';
import { filled } from './texts.js';

/** Asks Prometheus, through the server of this page. */
export async function get(path, params) {
  const list = Object.entries(params).flatMap(([key, value]) => [value].flat().map((each) => [key, each]));
  const answer = await fetch(`/api/v1/${path}?${new URLSearchParams(list)}`);
  const { status, data, errorType, error } = await answer.json();
  if (status !== 'success') throw new Error(`${errorType}: ${error}`);
  return data;
}

const seconds = (text) => rangeUtil.intervalToMs(text) / 1000;
const MOST_STEPS = 11000;

/** The step of a target, and the variables that Grafana gives it, in a panel of so many pixels. */
function timing(target, panel, range, width, values, scrapeInterval) {
  const least = filled(target.interval || panel.interval || scrapeInterval, values);
  const points = panel.maxDataPoints ?? Math.max(100, Math.round(width));
  const found = rangeUtil.calculateInterval(range, points, `>${least}`);
  const span = (range.to.valueOf() - range.from.valueOf()) / 1000;
  const step = Math.max((found.intervalMs / 1000) * (target.intervalFactor ?? 1), span / MOST_STEPS);
  const rate = Math.max(step + seconds(least), 4 * seconds(least));
  const whole = Math.round(span);
  return {
    step,
    own: {
      __interval: found.interval, __interval_ms: String(found.intervalMs), __rate_interval: `${rate}s`,
      __range: `${whole}s`, __range_s: String(whole), __range_ms: String(whole * 1000),
      __from: String(range.from.valueOf()), __to: String(range.to.valueOf()),
    },
  };
}

/** The frames of all targets of a panel, its exemplars, and a note on each query. */
export async function panelData(panel, range, width, values, scrapeInterval) {
  const shown = (panel.targets ?? []).filter((each) => !each.hide);
  const isOneOfMany = (panel.targets ?? []).length > 1;
  const asked = await Promise.all(
    shown.map((target) => targetData(target, panel, range, isOneOfMany, values, timing(target, panel, range, width, values, scrapeInterval)))
  );
  return {
    frames: asked.flatMap((each) => each.frames),
    exemplars: asked.flatMap((each) => each.exemplars),
    queries: asked.map((each) => each.note),
  };
}

async function targetData(target, panel, range, isOneOfMany, values, { step, own }) {
  const query = filled(target.expr, { ...values, ...own });
  const note = { ref: target.refId, query, step, series: 0, error: null };
  const from = range.from.valueOf() / 1000;
  const to = range.to.valueOf() / 1000;
  const found = { frames: [], exemplars: [], note };
  try {
    if (target.instant && !target.range) {
      const data = await get('query', { query, time: to });
      found.frames = instantFrames(data, target, query, isOneOfMany);
    } else {
      const start = Math.floor(from / step) * step;
      const data = await get('query_range', { query, start, end: Math.floor(to / step) * step, step });
      found.frames = rangeFrames(data.result, target, query, step);
    }
    note.series = found.frames.length;
    if (target.exemplar) {
      const series = await get('query_exemplars', { query, start: from, end: to });
      found.exemplars = series.flatMap((each) => each.exemplars).map((each) => ({
        time: each.timestamp * 1000, value: Number(each.value), trace: each.labels.trace_id,
      }));
    }
  } catch (error) {
    note.error = String(error.message ?? error);
  }
  return found;
}

function instantFrames(data, target, query, isOneOfMany) {
  const result = data.resultType === 'scalar' ? [{ metric: {}, value: data.result }] : data.result;
  if (target.format === 'table') return result.length ? [tableFrame(result, target, isOneOfMany)] : [];
  return result.map((each) => seriesFrame(each.metric, [each.value], target, query, undefined));
}

const number = (text) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

function tableFrame(result, target, isOneOfMany) {
  const labels = [...new Set(result.flatMap((each) => Object.keys(each.metric)))].sort();
  const field = (name, type, values) => ({ name, type, config: {}, values });
  return {
    refId: target.refId,
    meta: { preferredVisualisationType: 'table' },
    length: result.length,
    fields: [
      field('Time', FieldType.time, result.map((each) => each.value[0] * 1000)),
      ...labels.map((label) => field(label, FieldType.string, result.map((each) => each.metric[label] ?? ''))),
      field(isOneOfMany ? `Value #${target.refId}` : 'Value', FieldType.number, result.map((each) => number(each.value[1]))),
    ],
  };
}

function nameOf(format, labels, query) {
  if (format && format !== '__auto') {
    return format.replace(/\{\{\s*([\w.]+)\s*\}\}/g, (_, label) => labels[label] ?? '');
  }
  const { __name__: name = '', ...rest } = labels;
  const inside = Object.entries(rest).map(([key, value]) => `${key}="${value}"`).join(', ');
  return inside ? `${name}{${inside}}` : name || query;
}

function seriesFrame(labels, points, target, query, step) {
  const name = nameOf(target.legendFormat, labels, query);
  return {
    refId: target.refId,
    name,
    length: points.length,
    fields: [
      { name: 'Time', type: FieldType.time, config: step ? { interval: step * 1000 } : {}, values: points.map(([time]) => time * 1000) },
      { name: 'Value', type: FieldType.number, labels, config: { displayNameFromDS: name }, values: points.map(([, value]) => number(value)) },
    ],
  };
}

function rangeFrames(result, target, query, step) {
  const native = result.filter((each) => each.histograms).map((each) => cellsFrame(each, target, step));
  const plain = result.filter((each) => each.values);
  if (target.format === 'heatmap') return plain.length ? [...native, rowsFrame(plain, target, step)] : native;
  const series = plain.map((each) => seriesFrame(each.metric, each.values, target, query, step));
  return [...native, ...series];
}

/** A native histogram over time: a row for each cell with a count. */
function cellsFrame({ histograms }, target, step) {
  const cells = histograms.flatMap(([time, { buckets = [] }]) =>
    buckets.map(([, low, high, count]) => [time * 1000, number(low), number(high), Number(count)])
  );
  const field = (name, type, column) => ({ name, type, config: {}, values: cells.map((cell) => cell[column]) });
  return {
    refId: target.refId,
    meta: { type: DataFrameType.HeatmapCells },
    length: cells.length,
    step: step * 1000,
    fields: [
      field('xMax', FieldType.time, 0), field('yMin', FieldType.number, 1),
      field('yMax', FieldType.number, 2), field('count', FieldType.number, 3),
    ],
  };
}

/** Series by `le`, as the heat map's own format: cumulative counts become counts of each bucket. */
function rowsFrame(series, target, step) {
  const sorted = series.map((each) => ({ ...each, le: number(each.metric.le) })).sort((a, b) => a.le - b.le);
  const times = [...new Set(sorted.flatMap((each) => each.values.map(([time]) => time)))].sort((a, b) => a - b);
  const at = sorted.map((each) => new Map(each.values.map(([time, value]) => [time, number(value)])));
  const counts = (row) => times.map((time) => {
    const mine = at[row].get(time);
    const below = row ? at[row - 1].get(time) ?? 0 : 0;
    return mine === undefined ? null : Math.max(0, mine - below);
  });
  return {
    refId: target.refId,
    meta: { type: DataFrameType.HeatmapRows },
    length: times.length,
    step: step * 1000,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: times.map((time) => time * 1000) },
      ...sorted.map((each, row) => ({
        name: each.metric.le ?? '', type: FieldType.number, config: {}, labels: each.metric, values: counts(row),
      })),
    ],
  };
}

/** The annotations of a board: regions of time in which an expression has a value. */
export async function annotations(board, range, values, scrapeInterval) {
  const found = [];
  for (const each of board.annotations?.list ?? []) {
    const query = each.expr ?? each.target?.expr;
    if (!query || each.enable === false) continue;
    const step = seconds(filled(each.step || scrapeInterval, values));
    const whole = `${Math.round((range.to.valueOf() - range.from.valueOf()) / 1000)}s`;
    const expr = filled(query, { ...values, __interval: `${step}s`, __rate_interval: `${4 * step}s`, __range: whole });
    const start = Math.floor(range.from.valueOf() / 1000 / step) * step;
    try {
      const { result } = await get('query_range', { query: expr, start, end: range.to.valueOf() / 1000, step });
      const regions = result.flatMap(({ metric, values: samples }) => regionsOf(samples, step, each.useValueForTime).map((region) => ({
        ...region, color: each.iconColor ?? 'red', text: nameOf(each.titleFormat, metric, expr),
      })));
      found.push({ name: each.name, regions, error: null });
    } catch (error) {
      found.push({ name: each.name, regions: [], error: String(error.message ?? error) });
    }
  }
  return found;
}

function regionsOf(samples, step, isTimeInValue) {
  if (isTimeInValue) return [...new Set(samples.map(([, value]) => Number(value)))].map((time) => ({ from: time, to: time }));
  const regions = [];
  for (const [time, value] of samples) {
    if (!Number(value)) continue;
    const last = regions.at(-1);
    if (last && time * 1000 - last.to <= step * 1000) last.to = time * 1000;
    else regions.push({ from: time * 1000, to: time * 1000 });
  }
  return regions;
}

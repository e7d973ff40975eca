// What a drawn board shows, for checks: texts, colours, legends and what is cut off.
import { FieldType, getFieldDisplayName, getFieldSeriesColor } from '@grafana/data';
import { displayValues } from './panels/display_values.jsx';
import { graphable } from './panels/graph.jsx';
import { lostShare } from './panels/heatmap.jsx';
import { optionsOf } from './panels/index.jsx';
import { cutTexts, legendNames } from './visible_texts.js';

/** One entry for each panel that is drawn, and one for each annotation. */
export function factsOf({ board, annotations, panels, values }, theme, range) {
  return {
    annotations: annotations.map(({ name, regions, error }) => ({ name, regions: regions.length, error })),
    board: board.uid,
    panels: panels.filter(({ panel }) => panel.type !== 'row').map((each) => panelFacts(each, values, theme, range)),
  };
}

function panelFacts({ panel, drawn, gridPos }, values, theme, range) {
  const element = document.querySelector(`[data-panel="${panel.id}"]`);
  return {
    id: panel.id,
    title: panel.title,
    type: panel.type,
    gridPos,
    queries: drawn.queries,
    hasData: panel.type === 'text' || drawn.data.some(hasValues),
    lost: panel.type === 'heatmap' ? lostShare(drawn.data) : 0,
    repeats: panel.repeat ?? null,
    noValue: panel.fieldConfig?.defaults?.noValue ?? null,
    fault: element.querySelector('[data-error]')?.textContent ?? null,
    text: [element.innerText, ...[...element.querySelectorAll('svg text')].map((each) => each.textContent)].join('\n'),
    cut: cutTexts(element),
    series: seriesOf(panel, drawn, theme, range),
    values: shownValues(panel, drawn, values, theme),
    legend: legendNames(element),
    links: linksOf(drawn),
  };
}

/** Whether a frame has a number; a table of texts has values too. */
function hasValues(frame) {
  const numbers = frame.fields.filter((field) => field.type === FieldType.number);
  return frame.length > 0 && (numbers.length === 0 || numbers.some((field) => field.values.some(Number.isFinite)));
}

/** The series of a graph, with the colours and dashes in which they are drawn. */
function seriesOf(panel, { data }, theme, range) {
  if (!['timeseries', 'barchart'].includes(panel.type)) return [];
  const frames = panel.type === 'timeseries' ? graphable(data, range) : data;
  return frames.flatMap((frame) =>
    frame.fields.filter((field) => field.type === FieldType.number && !field.config.custom?.hideFrom?.viz).map((field) => ({
      name: getFieldDisplayName(field, frame, frames),
      color: getFieldSeriesColor(field, theme).color,
      dash: JSON.stringify(field.config.custom?.lineStyle?.fill === 'dash' ? field.config.custom.lineStyle : null),
    }))
  );
}

function shownValues(panel, drawn, values, theme) {
  if (!['stat', 'bargauge'].includes(panel.type)) return [];
  return displayValues({ ...panel, options: optionsOf(panel) }, drawn, values, theme).map(({ display }) => ({
    name: display.title ?? '',
    // Grafana's value for nothing at all is 0.
    isKnown: drawn.data.length > 0 && Number.isFinite(display.numeric),
    text: `${display.prefix ?? ''}${display.text}${display.suffix ?? ''}`,
    color: display.color ?? null,
  }));
}

/** The first address of each data link, with what its row says filled in. */
function linksOf({ data }) {
  return data.flatMap((frame) =>
    frame.fields.filter((field) => field.config.links?.length && frame.length).flatMap((field) =>
      field.getLinks({ valueRowIndex: 0 }).map(({ title, href }) => ({ field: field.name, title, href }))
    )
  );
}

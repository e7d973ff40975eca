// A panel: its data as Grafana shows it, its frame, and the component of its kind.
import { applyFieldOverrides, transformDataFrame } from '@grafana/data';
import { Icon, PanelChrome } from '@grafana/ui';
import { lastValueFrom } from 'rxjs';
import { registry } from '../grafana.js';
import { replacer } from '../texts.js';
import { BarChart } from './bar_chart.jsx';
import { Bars, Stat } from './display_values.jsx';
import { Empty } from './empty.jsx';
import { Graph } from './graph.jsx';
import { Heatmap } from './heatmap.jsx';
import { States } from './states.jsx';
import { TableOf } from './table.jsx';
import { TextOf } from './text.jsx';

const KINDS = {
  barchart: BarChart, bargauge: Bars, heatmap: Heatmap, stat: Stat, 'state-timeline': States,
  table: TableOf, text: TextOf, timeseries: Graph,
};

/** What Grafana's panels have where the board says nothing. */
const CUSTOM_DEFAULTS = {
  timeseries: {
    drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none',
    spanNulls: false, showPoints: 'auto', pointSize: 5, stacking: { mode: 'none', group: 'A' },
    axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', axisBorderShow: false,
    scaleDistribution: { type: 'linear' }, thresholdsStyle: { mode: 'off' }, barAlignment: 0,
    barWidthFactor: 0.6, hideFrom: { legend: false, tooltip: false, viz: false },
  },
  table: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false },
  'state-timeline': { lineWidth: 0, fillOpacity: 70 },
  barchart: { lineWidth: 1, fillOpacity: 80 },
};
const BY_PALETTE = new Set(['timeseries', 'barchart']);
const OPTION_DEFAULTS = {
  stat: {
    graphMode: 'area', colorMode: 'value', justifyMode: 'auto', textMode: 'auto', wideLayout: true,
    orientation: 'auto', reduceOptions: { values: false, calcs: ['lastNotNull'], fields: '' },
  },
  bargauge: {
    displayMode: 'gradient', valueMode: 'color', namePlacement: 'auto', showUnfilled: true,
    minVizWidth: 8, minVizHeight: 16, maxVizHeight: 300, orientation: 'auto',
    reduceOptions: { values: false, calcs: ['lastNotNull'], fields: '' },
  },
  timeseries: { legend: { showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [] } },
  table: { showHeader: true, cellHeight: 'sm', frameIndex: 0 },
  'state-timeline': { showValue: 'auto', mergeValues: true, rowHeight: 0.9, legend: { showLegend: true } },
  barchart: { orientation: 'auto', showValue: 'auto', stacking: 'none', barWidth: 0.97, groupWidth: 0.7 },
};

export const optionsOf = (panel) => ({ ...OPTION_DEFAULTS[panel.type], ...panel.options });

/** The frames of a panel after its transformations, with units, colours, texts and links. */
export async function displayed(panel, frames, values, theme) {
  const replaceVariables = replacer(values);
  let data = frames;
  if (panel.transformations?.length && data.length) {
    const used = panel.transformations.filter((each) => !each.disabled);
    data = await lastValueFrom(transformDataFrame(used, data, { interpolate: replaceVariables }));
  }
  const fieldConfig = fieldConfigOf(panel);
  const shown = applyFieldOverrides({
    data, fieldConfig, fieldConfigRegistry: registry, replaceVariables, theme, timeZone: 'utc',
  });
  return { data: shown.map((frame, index) => ({ ...frame, step: data[index]?.step })), fieldConfig };
}

function fieldConfigOf(panel) {
  const own = panel.fieldConfig ?? { defaults: {}, overrides: [] };
  const custom = { ...CUSTOM_DEFAULTS[panel.type], ...own.defaults?.custom };
  if (custom.stacking) custom.stacking = { group: 'A', ...custom.stacking };
  const steps = [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }];
  const defaults = { thresholds: { mode: 'absolute', steps }, ...own.defaults, custom };
  defaults.color ??= { mode: BY_PALETTE.has(panel.type) ? 'palette-classic' : 'thresholds' };
  return { overrides: [], ...own, defaults };
}

export function Panel({ panel, drawn, width, height, range, values, annotations }) {
  const title = replacer(values)(panel.title ?? '');
  const description = (panel.description ?? '').replaceAll('\n', '<br>');
  const links = panel.links?.length ? [<Icon key="links" name="external-link-alt" size="sm" />] : undefined;
  const errors = drawn.queries.map((each) => each.error).filter(Boolean).join('; ');
  const Kind = KINDS[panel.type] ?? Unknown;
  const shared = { panel: { ...panel, options: optionsOf(panel) }, drawn, range, values, annotations };
  return (
    <PanelChrome title={title} description={description} titleItems={links} width={width} height={height}
      padding="md" displayMode={panel.transparent ? 'transparent' : 'default'} statusMessage={errors || undefined}>
      {(innerWidth, innerHeight) => <Kind {...shared} width={innerWidth} height={innerHeight} />}
    </PanelChrome>
  );
}

function Unknown({ panel, height }) {
  return <Empty panel={panel} height={height} text={`panels of the type ${panel.type} cannot be drawn here`} />;
}

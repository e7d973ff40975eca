// What Grafana's front end registers at its start, as far as panels need it.
import {
  booleanOverrideProcessor, createTheme, dataLinksOverrideProcessor, displayNameOverrideProcessor,
  FieldConfigOptionsRegistry, FieldType, identityOverrideProcessor, locationUtil,
  numberOverrideProcessor, setTimeZoneResolver, standardEditorsRegistry,
  standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry,
  stringOverrideProcessor, thresholdsOverrideProcessor, unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';

const isNumber = (field) => field.type === FieldType.number;
const always = () => true;

const STANDARD = [
  ['displayName', displayNameOverrideProcessor, always],
  ['unit', unitOverrideProcessor, always],
  ['min', numberOverrideProcessor, isNumber],
  ['max', numberOverrideProcessor, isNumber],
  ['fieldMinMax', booleanOverrideProcessor, isNumber],
  ['decimals', numberOverrideProcessor, isNumber],
  ['noValue', stringOverrideProcessor, always],
  ['links', dataLinksOverrideProcessor, (field) => field.type !== FieldType.time],
  ['color', identityOverrideProcessor, always],
  ['thresholds', thresholdsOverrideProcessor, isNumber],
  ['mappings', valueMappingsOverrideProcessor, always],
  ['filterable', booleanOverrideProcessor, always],
];

/** Options of the kinds of panels, which overrides may change. */
const CUSTOM = [
  'align', 'filterable', 'inspect', 'cellOptions', 'width', 'minWidth', 'hidden',
  'drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'gradientMode',
  'showPoints', 'pointSize', 'pointSymbol', 'spanNulls', 'insertNulls', 'axisPlacement',
  'axisLabel', 'axisSoftMin', 'axisSoftMax', 'axisWidth', 'axisGridShow', 'axisBorderShow',
  'axisCenteredZero', 'axisColorMode', 'scaleDistribution', 'stacking', 'thresholdsStyle',
  'barAlignment', 'barWidthFactor', 'barMaxWidth', 'hideFrom', 'transform', 'fillBelowTo',
];

const option = (id, path, process, shouldApply, isCustom) => ({
  id, path, name: path, process, shouldApply, isCustom, settings: {},
  editor: () => null, override: () => null,
});

export const registry = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map(([id, process, applies]) => option(id, id, process, applies, false)),
  ...CUSTOM.map((id) => option(`custom.${id}`, id, identityOverrideProcessor, always, true)),
]);

export const makeTheme = (mode) => createTheme({ colors: { mode } });

export function register() {
  standardFieldConfigEditorRegistry.setInit(() => registry.list().filter((each) => !each.isCustom));
  standardEditorsRegistry.setInit(() => []);
  const byId = new Map(Object.values(standardTransformers).map((each) => [each.id, each]));
  standardTransformersRegistry.setInit(() =>
    [...byId.values()].map((each) => ({ id: each.id, name: each.name, transformation: each, editor: () => null }))
  );
  setTimeZoneResolver(() => 'utc');
  locationUtil.initialize({
    config: { appSubUrl: '', appUrl: '' },
    getVariablesUrlParams: () => ({}),
    getTimeRangeForUrl: () => ({ from: 'now-1h', to: 'now' }),
  });
}

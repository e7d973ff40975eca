// Panels of single values: stats and bars.
import { FieldType, getDisplayProcessor, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, useTheme2, VizRepeater } from '@grafana/ui';
import { replacer } from '../texts.js';

/** The values that a stat or a bar shows, as Grafana computes them. */
export const displayValues = (panel, drawn, values, theme) =>
  getFieldDisplayValues({
    fieldConfig: drawn.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: replacer(values),
    theme,
    data: drawn.data,
    sparkline: panel.type === 'stat' && panel.options.graphMode !== 'none',
    timeZone: 'utc',
    percentChange: panel.options.showPercentChange,
  });

export function Stat({ panel, drawn, width, height, values }) {
  const theme = useTheme2();
  const { options } = panel;
  return (
    <VizRepeater getValues={() => displayValues(panel, drawn, values, theme)} source={drawn} renderCounter={1} autoGrid
      getAlignmentFactors={getDisplayValueAlignmentFactors} itemSpacing={3} width={width} height={height}
      orientation={options.orientation}
      renderValue={({ value, alignmentFactors, width: wide, height: high, count }) => (
        <BigValue value={value.display} count={count} theme={theme} text={options.text} width={wide} height={high}
          sparkline={value.sparkline && { ...value.sparkline, timeRange: undefined }} alignmentFactors={alignmentFactors}
          colorMode={options.colorMode} graphMode={options.graphMode} justifyMode={options.justifyMode}
          textMode={options.textMode} wideLayout={options.wideLayout} percentChangeColorMode={options.percentChangeColorMode} />
      )} />
  );
}

export function Bars({ panel, drawn, width, height, values }) {
  const theme = useTheme2();
  const { options } = panel;
  const spacing = options.displayMode === 'lcd' ? 2 : 10;
  return (
    <VizRepeater getValues={() => displayValues(panel, drawn, values, theme)} source={drawn} renderCounter={1}
      getAlignmentFactors={getDisplayValueAlignmentFactors} itemSpacing={spacing} width={width} height={height}
      minVizWidth={options.minVizWidth} minVizHeight={options.minVizHeight} maxVizHeight={options.maxVizHeight}
      orientation={options.orientation}
      renderValue={({ value, alignmentFactors, width: wide, height: high, orientation }) => (
        <BarGauge value={value.display} field={value.field} theme={theme} text={options.text} width={wide} height={high}
          display={getDisplayProcessor({ field: { type: FieldType.number, config: value.field }, theme })}
          orientation={orientation} itemSpacing={spacing} lcdCellWidth={12} alignmentFactors={alignmentFactors}
          displayMode={options.displayMode} showUnfilled={options.showUnfilled} valueDisplayMode={options.valueMode}
          namePlacement={options.namePlacement} />
      )} />
  );
}

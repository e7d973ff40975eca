// Bar charts, drawn here: Grafana's own is no public component.
import { FieldType, formattedValueToString, getFieldDisplayName, getFieldSeriesColor } from '@grafana/data';
import { useTheme2, VizLegend, VizLayout } from '@grafana/ui';
import { Empty } from './empty.jsx';

const LETTER = 6.7;

export function BarChart({ panel, drawn, width, height }) {
  const theme = useTheme2();
  const frame = drawn.data.find((each) => each.length);
  if (!frame) return <Empty panel={panel} height={height} />;
  const names = frame.fields.find((field) => field.name === panel.options.xField || field.type === FieldType.string) ?? frame.fields[0];
  const series = frame.fields.filter((field) => field.type === FieldType.number && field !== names && !field.config.custom?.hideFrom?.viz)
    .map((field) => ({ field, name: getFieldDisplayName(field, frame, drawn.data), color: getFieldSeriesColor(field, theme).color }));
  const items = series.map(({ name, color }) => ({ label: name, color, yAxis: 1 }));
  const { showLegend, placement = 'bottom', displayMode = 'list' } = panel.options.legend ?? { showLegend: true };
  const legend = showLegend ? <VizLayout.Legend placement={placement}><VizLegend placement={placement} displayMode={displayMode} items={items} /></VizLayout.Legend> : null;
  return (
    <VizLayout width={width} height={height} legend={legend}>
      {(wide, high) => <Plot {...{ panel, frame, names, series, theme }} width={wide} height={high} />}
    </VizLayout>
  );
}

function Plot({ panel, frame, names, series, theme, width, height }) {
  const isFlat = panel.options.orientation === 'horizontal';
  const isStacked = (panel.options.stacking ?? 'none') !== 'none';
  const labels = names.values.map((value) => formattedValueToString(names.display(value)));
  const totals = labels.map((_, row) => (isStacked ? series.reduce((sum, { field }) => sum + (field.values[row] ?? 0), 0) : Math.max(...series.map(({ field }) => field.values[row] ?? 0))));
  const most = Math.max(...totals, 0) || 1;
  const room = isFlat ? Math.min(width / 2, Math.max(...labels.map((label) => label.length)) * LETTER + 8) : 20;
  const along = isFlat ? width - room - 60 : height - room - 16;
  const across = (isFlat ? height : width) / labels.length;
  return (
    <svg width={width} height={height} style={{ fontSize: 12, fontFamily: theme.typography.fontFamily }}>
      {labels.map((label, row) => {
        let begun = 0;
        const middle = (row + 0.5) * across;
        return (
          <g key={label}>
            <text x={isFlat ? room - 6 : middle} y={isFlat ? middle + 4 : height - 4} textAnchor={isFlat ? 'end' : 'middle'} fill={theme.colors.text.primary}>{label}</text>
            {series.map(({ field, name, color }, index) => {
              const value = field.values[row] ?? 0;
              const long = (value / most) * along;
              const thick = (across * 0.7) / (isStacked ? 1 : series.length);
              const side = middle - across * 0.35 + (isStacked ? 0 : index * thick);
              const start = isStacked ? begun : 0;
              begun += long;
              const place = isFlat ? { x: room + start, y: side, width: long, height: thick } : { x: side, y: height - room - start - long, width: thick, height: long };
              return <rect key={name} {...place} fill={color} fillOpacity={(field.config.custom?.fillOpacity ?? 80) / 100} />;
            })}
            {panel.options.showValue !== 'never' && series.length === 1 && (
              <text x={isFlat ? room + begun + 6 : middle} y={isFlat ? middle + 4 : height - room - begun - 4} textAnchor={isFlat ? 'start' : 'middle'} fill={theme.colors.text.primary}>
                {formattedValueToString(series[0].field.display(series[0].field.values[row]))}
              </text>
            )}
          </g>
        );
      })}
    </svg>
  );
}

// State timelines, drawn here: Grafana's own is no public component.
import { FieldType, formattedValueToString, getFieldDisplayName } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';
import { Empty } from './empty.jsx';
import { timeTicks } from './axes.js';

const LETTER = 6.7;
const AXIS = 20;

export function States({ panel, drawn, width, height, range, annotations }) {
  const theme = useTheme2();
  const rows = drawn.data.filter((frame) => frame.length).flatMap((frame) => rowsOf(frame, drawn.data));
  // Grafana 11.6 does not show the panel's own text here; later versions do.
  if (!rows.length) return <Empty panel={panel} height={height} text="No data in response" />;
  const left = Math.min(width / 2, Math.max(...rows.map((row) => row.name.length)) * LETTER + 12);
  const from = range.from.valueOf();
  const x = (time) => left + ((Math.max(time, from) - from) / (range.to.valueOf() - from)) * (width - left);
  const high = (height - AXIS) / rows.length;
  return (
    <svg width={width} height={height} style={{ fontSize: 12, fontFamily: theme.typography.fontFamily }}>
      {rows.map((row, index) => (
        <Row key={row.name} {...{ row, x, high, left, panel, theme, range }} top={index * high} />
      ))}
      {annotations.flatMap((each) => each.regions).flatMap(({ from: start, to, color }) => [...new Set([start, to])].map((time) => (
        <line key={`${start} ${time}`} x1={x(time)} x2={x(time)} y1={0} y2={height - AXIS} stroke={theme.visualization.getColorByName(color)} strokeDasharray="5 5" />
      )))}
      {timeTicks(range, width - left).map(({ at, text }) => (
        <text key={at} x={left + at * (width - left)} y={height - 4} textAnchor="middle" fill={theme.colors.text.primary}>{text}</text>
      ))}
    </svg>
  );
}

function rowsOf(frame, frames) {
  const time = frame.fields.find((field) => field.type === FieldType.time);
  const step = time.config.interval ?? 0;
  return frame.fields
    .filter((field) => field !== time && !field.config.custom?.hideFrom?.viz)
    .map((field) => ({ name: getFieldDisplayName(field, frame, frames), field, times: time.values, step }));
}

/** Times in which a row has one state; a gap of more than a step and a half ends it. */
function blocksOf({ field, times, step }, range, isMerged) {
  const blocks = [];
  field.values.forEach((value, index) => {
    if (value === null || value === undefined) return;
    const display = field.display(value);
    const key = field.config.color?.mode === 'thresholds' && !display.text.trim() ? display.color : display.text + display.color;
    const to = Math.min(times[index] + step, range.to.valueOf());
    const last = blocks.at(-1);
    if (last && isMerged && last.key === key && times[index] - last.to <= step / 2) last.to = to;
    else blocks.push({ key, display, from: times[index], to });
  });
  return blocks;
}

function Row({ row, x, top, high, left, panel, theme, range }) {
  const { mergeValues, showValue, rowHeight } = panel.options;
  const margin = (high * (1 - (rowHeight || 0.9))) / 2;
  const middle = top + high / 2 + 4;
  return (
    <g>
      <text x={left - 8} y={middle} textAnchor="end" fill={theme.colors.text.primary}>{row.name}</text>
      {blocksOf(row, range, mergeValues !== false).map((block) => {
        const text = formattedValueToString(block.display);
        const wide = Math.max(1, x(block.to) - x(block.from));
        const hasRoom = showValue === 'always' || (showValue !== 'never' && wide > text.length * LETTER + 8 && high > 14);
        return (
          <g key={block.from}>
            <rect x={x(block.from)} y={top + margin} width={wide} height={Math.max(1, high - 2 * margin)} fill={block.display.color} fillOpacity={(row.field.config.custom?.fillOpacity ?? 70) / 100} />
            {hasRoom && <text x={x(block.from) + 6} y={middle} fill={theme.colors.getContrastText(block.display.color ?? '#000')}>{text}</text>}
          </g>
        );
      })}
    </g>
  );
}

// The axis of time of the panels that are drawn here.
import { dateTimeFormat } from '@grafana/data';

const STEPS = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 86400].map((each) => each * 1000);

/** Where labels of time stand, from 0 to 1, and what they say; the last one may have no room. */
export function timeTicks(range, width) {
  const from = range.from.valueOf();
  const to = range.to.valueOf();
  const step = STEPS.find((each) => (to - from) / each < width / 70) ?? STEPS.at(-1);
  const format = step < 60000 ? 'HH:mm:ss' : 'HH:mm';
  const ticks = [];
  for (let time = Math.ceil(from / step) * step; time <= to - ((to - from) / width) * 20; time += step) {
    ticks.push({ at: (time - from) / (to - from), text: dateTimeFormat(time, { format, timeZone: 'utc' }) });
  }
  return ticks;
}

// Variables of a board, and texts that contain them.
import { filled } from './texts.js';

const escaped = (value) => value.replace(/[\\^$*+?.()|{}[\]]/g, '\\$&').replace(/\\/g, '\\\\');

/** The value of each variable, as it stands in a query: what is chosen, or its default. */
export function variableValues(board, chosen) {
  const values = {};
  for (const variable of board.templating?.list ?? []) {
    values[variable.name] = valueOf(variable, chosen[variable.name]);
  }
  return values;
}

function valueOf(variable, mine) {
  if (mine !== undefined) {
    const list = [mine].flat();
    if (variable.type !== 'query') return list[0];
    return list.length === 1 ? escaped(list[0]) : `(${list.map(escaped).join('|')})`;
  }
  if (variable.type === 'datasource') return 'prometheus';
  if (variable.type === 'constant' || variable.type === 'textbox') return variable.query;
  if (variable.includeAll) return variable.allValue ?? '.*';
  return variable.current?.value ?? '';
}

/** The choices of each variable that asks Prometheus. */
export async function variableChoices(board, values, range, get) {
  const choices = {};
  for (const variable of board.templating?.list ?? []) {
    if (variable.type !== 'query') continue;
    const text = typeof variable.query === 'string' ? variable.query : variable.query.query;
    const found = await choicesOf(filled(text, values), range, get);
    const filter = variable.regex ? new RegExp(variable.regex.replace(/^\/|\/$/g, '')) : null;
    choices[variable.name] = filter
      ? [...new Set(found.map((each) => filter.exec(each)).filter(Boolean).map((each) => each.groups?.value ?? each[1] ?? each[0]))]
      : found;
  }
  return choices;
}

async function choicesOf(query, range, get) {
  const time = { start: range.from.valueOf() / 1000, end: range.to.valueOf() / 1000 };
  const labels = /^label_values\((.+), *(\w+)\)$/.exec(query);
  if (labels) return get(`label/${labels[2]}/values`, { 'match[]': labels[1], ...time });
  const result = /^query_result\((.+)\)$/.exec(query);
  if (!result) throw new Error(`a variable asks ${query}, which is neither label_values nor query_result`);
  const { result: samples } = await get('query', { query: result[1], time: time.end });
  return samples.map(({ metric: { __name__: name = '', ...rest }, value }) => {
    const inside = Object.entries(rest).map(([key, text]) => `${key}="${text}"`).join(',');
    return `${name}{${inside}} ${value[1]} ${value[0] * 1000}`;
  });
}

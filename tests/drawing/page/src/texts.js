// Texts with variables in them.

const VARIABLE = /\$\{([\w.]+)(?::(\w+))?\}|\$(\w+)|\[\[(\w+)\]\]/g;

/** A text with the values of the variables that are known; others stay. */
export const filled = (text, values) =>
  text.replace(VARIABLE, (all, braced, _, plain, old) => values[braced ?? plain ?? old] ?? all);

/** Grafana's `replaceVariables` for titles and links, which also knows the row of a table. */
export const replacer = (values) => (text, scoped) => {
  if (typeof text !== 'string') return text ?? '';
  return text.replace(/\$\{(__[^}:]+)(?::\w+)?\}|\$__(\w+)/g, (all, braced, plain) => own(braced ?? `__${plain}`, scoped) ?? all)
    .replace(VARIABLE, (all, braced, format, plain, old) => formatted(braced ?? plain ?? old, format, values) ?? all);
};

const formatted = (name, format, values) =>
  format === 'queryparam' && name in values ? `var-${name}=${encodeURIComponent(values[name])}` : values[name];

function own(name, scoped) {
  if (name === '__url_time_range') return 'from=now-1h&to=now';
  if (name === '__all_variables') return '';
  const context = scoped?.__dataContext?.value;
  if (!context) return undefined;
  const { frame, field, rowIndex } = context;
  if (name.startsWith('__value')) return rowIndex === undefined ? '' : String(field.values[rowIndex]);
  const label = /^__field\.labels\.(.+)$/.exec(name) ?? /^__field\.labels\["?(.+?)"?\]$/.exec(name);
  if (label) return field.labels?.[label[1]] ?? '';
  if (name === '__field.name' || name === '__series.name') return field.state?.displayName ?? field.name;
  const column = /^__data\.fields\.(.+)$/.exec(name) ?? /^__data\.fields\["?(.+?)"?\]$/.exec(name);
  if (!column) return undefined;
  const found = frame.fields.find((each) => [each.name, each.state?.displayName, each.config?.displayName].includes(column[1])) ?? frame.fields[Number(column[1])];
  return found && rowIndex !== undefined ? String(found.values[rowIndex]) : undefined;
}

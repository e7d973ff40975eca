// Loads a board, asks Prometheus for each panel, and lays the panels out on Grafana's grid.
//   ?from=MS&to=MS&vars=JSON&theme=dark&interval=60s&width=1600
// `drawing` holds what is drawn; `openRows` draws the board again with all of its rows open.
import { dateTime, dateTimeFormat, EventBusSrv, ThemeContext } from '@grafana/data';
import { GlobalStyles, Icon, PanelContextProvider } from '@grafana/ui';
import { Component, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { factsOf } from './facts.js';
import { makeTheme, register } from './grafana.js';
import { laidOut } from './layout.js';
import { displayed, Panel } from './panels/index.jsx';
import { annotations, get, panelData } from './queries.js';
import { variableChoices, variableValues } from './variables.js';

const CELL = 30;
const GAP = 8;
const MARGIN = 16;

const asked = new URLSearchParams(location.search);
const width = Number(asked.get('width'));
const theme = makeTheme(asked.get('theme'));
const [from, to] = ['from', 'to'].map((name) => dateTime(Number(asked.get(name))));
const range = { from, to, raw: { from, to } };

const column = (width - 2 * MARGIN - 23 * GAP) / 24;
const place = ({ x, y, w, h }) => ({
  left: MARGIN + x * (column + GAP), top: y * (CELL + GAP), width: w * column + (w - 1) * GAP, height: h * CELL + (h - 1) * GAP,
});

async function load(isOpen) {
  const board = await (await fetch('/board.json')).json();
  const interval = asked.get('interval');
  const chosen = JSON.parse(asked.get('vars'));
  const values = variableValues(board, chosen);
  const choices = await variableChoices(board, values, range, get);
  const marks = await annotations(board, range, values, interval);
  const places = laidOut(board.panels, isOpen);
  const panels = await Promise.all(places.map(async ({ panel, gridPos }) => {
    if (panel.type === 'row') return { panel, gridPos };
    const { frames, exemplars, queries } = await panelData(panel, range, place(gridPos).width, values, interval);
    const drawn = { ...(await displayed(panel, frames, values, theme)), exemplars, queries };
    return { panel, gridPos, drawn };
  }));
  return { board, chosen, values, choices, annotations: marks, panels, isOpen };
}

class Guard extends Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  render() { return this.state.error ? <pre data-error style={{ color: 'red', whiteSpace: 'pre-wrap' }}>{String(this.state.error.stack)}</pre> : this.props.children; }
}

function Bar({ board, chosen, choices }) {
  const time = (moment) => dateTimeFormat(moment.valueOf(), { format: 'YYYY-MM-DD HH:mm:ss', timeZone: 'utc' });
  const text = (variable) => {
    if (variable.type === 'datasource') return 'Prometheus';
    if (chosen[variable.name] !== undefined) return [chosen[variable.name]].flat().join(' + ');
    return variable.includeAll ? 'All' : variable.current?.text ?? '';
  };
  return (
    <div style={{ padding: `8px ${MARGIN}px`, display: 'flex', gap: 8, flexWrap: 'wrap', alignItems: 'center' }}>
      <div style={{ width: '100%', fontSize: 14 }}>Home › Dashboards › Ollama › <b>{board.title}</b></div>
      {(board.templating?.list ?? []).filter((each) => each.hide !== 2).map((variable) => (
        <span key={variable.name} style={{ display: 'flex' }}>
          <Box isLabel>{variable.label ?? variable.name}</Box>
          <Box>{text(variable)} ▾{choices[variable.name] && ` (${choices[variable.name].length})`}</Box>
        </span>
      ))}
      <span style={{ flex: 1 }} />
      {(board.links ?? []).map((link) => <Box key={link.title}><Icon name="external-link-alt" /> {link.title}</Box>)}
      <Box>{time(range.from)} to {time(range.to)}</Box>
      <Box>⟳ {board.refresh || 'off'}</Box>
    </div>
  );
}

function Box({ isLabel, children }) {
  const { background, border } = theme.colors;
  const style = { background: isLabel ? background.secondary : background.primary, fontSize: isLabel ? 12 : 14, border: `1px solid ${border.medium}`, padding: '4px 8px', height: 32, lineHeight: '22px' };
  return <span style={style}>{children}</span>;
}

function Row({ panel, isOpen }) {
  return (
    <div style={{ height: 30, display: 'flex', alignItems: 'center', gap: 4, fontSize: 16, fontWeight: 500 }}>
      <Icon name={isOpen ? 'angle-down' : 'angle-right'} /> {panel.title}
      {!isOpen && <span style={{ fontSize: 12, opacity: 0.65 }}>({panel.panels.length} panels)</span>}
    </div>
  );
}

function App() {
  const [state, setState] = useState();
  useEffect(() => {
    const draw = (isOpen) => load(isOpen).then(setState, (error) => { window.drawing = { error: String(error.stack) }; });
    window.openRows = () => { delete window.drawing; draw(true); };
    draw(false);
  }, []);
  useEffect(() => { if (state) whenStill(() => { window.drawing = { facts: factsOf(state, theme, range) }; }); }, [state]);
  if (!state) return null;
  const bottom = Math.max(...state.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ width, background: theme.colors.background.canvas, minHeight: '100vh' }}>
      <Bar {...state} />
      <div style={{ position: 'relative', height: bottom * (CELL + GAP) + MARGIN }}>
        {state.panels.map(({ panel, gridPos, drawn }) => {
          const at = place(gridPos);
          return (
            <div key={panel.id} data-panel={panel.id} style={{ position: 'absolute', ...at }}>
              {panel.type === 'row'
                ? <Row panel={panel} isOpen={!panel.collapsed || state.isOpen} />
                : <Guard><Panel {...{ panel, drawn, range }} values={state.values} annotations={state.annotations} width={at.width} height={at.height} /></Guard>}
            </div>
          );
        })}
      </div>
    </div>
  );
}

/** Calls when the page has not changed for a moment: graphs draw after the page, icons come later. */
function whenStill(call, patience = 250) {
  let timer = setTimeout(call, patience);
  const observer = new MutationObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(() => { observer.disconnect(); call(); }, patience);
  });
  observer.observe(document.body, { childList: true, subtree: true, attributes: true, characterData: true });
}

register();
const context = { eventsScope: 'global', eventBus: new EventBusSrv(), sync: () => 0 };
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}><PanelContextProvider value={context}><GlobalStyles /><App /></PanelContextProvider></ThemeContext.Provider>
);

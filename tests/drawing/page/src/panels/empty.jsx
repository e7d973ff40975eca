/** What stands in place of a panel without data. */
export function Empty({ panel, text, height }) {
  return (
    <div style={{ height, display: 'flex', alignItems: 'center', justifyContent: 'center', textAlign: 'center', fontSize: 14, opacity: 0.65 }}>
      {text ?? (panel.fieldConfig?.defaults?.noValue || 'No data')}
    </div>
  );
}

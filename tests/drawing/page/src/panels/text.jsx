// Texts.
import { renderTextPanelMarkdown, textUtil } from '@grafana/data';
import { replacer } from '../texts.js';

export function TextOf({ panel, values, height }) {
  const text = replacer(values)(panel.options.content ?? '');
  const html = panel.options.mode === 'html' ? textUtil.sanitizeTextPanelContent(text) : renderTextPanelMarkdown(text);
  return <div className="markdown-html" style={{ height, overflow: 'auto' }} dangerouslySetInnerHTML={{ __html: html }} />;
}

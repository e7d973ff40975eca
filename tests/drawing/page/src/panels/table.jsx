// Tables.
import { Table } from '@grafana/ui';
import { Empty } from './empty.jsx';

export function TableOf({ panel, drawn, width, height, range }) {
  const { options } = panel;
  const frame = drawn.data[options.frameIndex ?? 0];
  if (!frame?.length) return <Empty panel={panel} height={height} />;
  return (
    <Table data={frame} width={width} height={height} timeRange={range} fieldConfig={drawn.fieldConfig}
      noHeader={!options.showHeader} showTypeIcons={options.showTypeIcons} cellHeight={options.cellHeight}
      footerOptions={options.footer} enablePagination={options.footer?.enablePagination} resizable initialSortBy={options.sortBy} />
  );
}

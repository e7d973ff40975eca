// Bundles the page into one script: `node bundle.mjs NODE_MODULES OUT_FILE`.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';

const [nodeModules, outFile] = process.argv.slice(2);
const { build } = createRequire(path.join(nodeModules, 'esbuild/package.json'))('esbuild');

/** Code editors and maps: they are large, and no panel of ours has one. */
const withoutEditors = {
  name: 'without-editors',
  setup(builder) {
    const filter = /^(monaco-editor|@monaco-editor\/react|ol)(\/.*)?$/;
    builder.onResolve({ filter }, (found) => ({ path: found.path, namespace: 'empty' }));
    builder.onLoad({ filter: /.*/, namespace: 'empty' }, () => ({
      contents: 'module.exports = new Proxy({}, { get: (_, key) => key === "__esModule" ? true : class {} })',
    }));
  },
};

/**
 * In `.mjs` files esbuild takes a whole CommonJS module for its default export, as Node does.
 * Grafana is built with webpack, which takes the module's own `default`.
 */
const defaultsAsWebpack = {
  name: 'defaults-as-webpack',
  setup(builder) {
    const anImport = /^import (\w+)(, \{[^}]*\})? from '([^.'][^']*)';$/gm;
    builder.onLoad({ filter: /@grafana\/[^/]+\/dist\/esm\/.*\.mjs$/ }, (found) => ({
      loader: 'js',
      contents: readFileSync(found.path, 'utf8').replace(
        anImport,
        (_, name, others, from) =>
          `import ${name}__module${others ?? ''} from '${from}'; ` +
          `const ${name} = ${name}__module?.__esModule && ${name}__module.default || ${name}__module;`
      ),
    }));
  },
};

await build({
  entryPoints: [fileURLToPath(new URL('src/main.jsx', import.meta.url))],
  bundle: true,
  minify: true,
  keepNames: true,
  outfile: outFile,
  format: 'iife',
  jsx: 'automatic',
  mainFields: ['module', 'browser', 'main'],
  conditions: ['import', 'module', 'browser'],
  define: { 'process.env.NODE_ENV': '"production"', 'process.env': '{}', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff2': 'dataurl' },
  nodePaths: [nodeModules],
  plugins: [withoutEditors, defaultsAsWebpack],
  logLevel: 'error',
});

import { fileURLToPath } from 'node:url';
import vue from '@vitejs/plugin-vue';
import { type Plugin, defineConfig } from 'vite';

// What the page asks for while `npm run dev` serves it; a Corral must listen there.
const corral = process.env['CORRAL_URL'] ?? 'http://127.0.0.1:8000';

/** Browsers that run this page read woff2: KaTeX's two older kinds of each font are left out. */
function woff2Only(): Plugin {
  return {
    name: 'woff2-only',
    enforce: 'pre',
    transform(code, id) {
      if (!/katex.*\.css/.test(id)) return undefined;
      return code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\(["'](?:woff|truetype)["']\)/g, '');
    },
  };
}

/** The first paint waits for the script: it has the colours that were chosen, no flash of others. */
function paintsOnce(): Plugin {
  return {
    name: 'paints-once',
    transformIndexHtml: {
      order: 'post',
      handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
    },
  };
}

// What every page needs is one file, what only messages need another; the rest comes when asked for.
const MARKDOWN = /node_modules\/(markdown-it|dompurify|entities|linkify-it|mdurl|uc\.micro|punycode)/;
const APP = /node_modules\/(vue|@vue|vue-router|pinia|eventsource-parser|reka-ui\/dist\/(?!Dialog))|src\/(api|chat|composables|stores)\/|src\/i18n\/(en|index)/;

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url));

export default defineConfig({
  plugins: [vue(), woff2Only(), paintsOnce()],
  resolve: {
    alias: { '@': source('').replace(/\/$/, ''), entities: source('markdown/entities.ts') },
  },
  // Every component here is written with the composition API.
  define: { __VUE_OPTIONS_API__: 'false' },
  build: {
    outDir: fileURLToPath(new URL('../../server/web/static', import.meta.url)),
    emptyOutDir: true,
    target: 'es2022',
    // A policy without data: addresses is stricter, and small files cost little on one connection.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: 'markdown', test: MARKDOWN },
            { name: 'app', test: APP },
          ],
        },
      },
    },
  },
  server: {
    proxy: Object.fromEntries(
      ['/v1', '/ui', '/admin'].map((path) => [path, { target: corral, changeOrigin: true }]),
    ),
  },
});

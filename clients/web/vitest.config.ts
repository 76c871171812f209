import { defineConfig, mergeConfig } from 'vitest/config';
import page from './vite.config';

export default mergeConfig(
  page,
  defineConfig({
    test: {
      environment: 'jsdom',
      // markdown-it goes through the page's aliases, as it does in the build.
      server: { deps: { inline: ['markdown-it'] } },
      setupFiles: ['tests/support/setup.ts'],
      include: ['tests/**/*.test.ts'],
      restoreMocks: true,
    },
  }),
);

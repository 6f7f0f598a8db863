// `npm test [-- VITEST ARGUMENTS]`: install, generate what sources need, run every test.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./lib/test.mjs');

// `npm run bench [-- ARGUMENTS]`: build, then run the benchmark of every package that has one.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./lib/bench.mjs');
